"""What local mode needs of a Ray, and by which names Serve knows what runs there."""

from typing import Any, Protocol

from eagleray_operator.local.private_ray import RayAddresses


class RayApi(Protocol):
    """What is needed of the private Ray."""

    serve_port: int

    @property
    def started(self) -> bool:
        """Whether it takes requests."""

    @property
    def addresses(self) -> RayAddresses:
        """Where it is, and what it counts."""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a REST call."""

    async def routed_replicas(self) -> dict[str, int] | None:
        """Replicas that HAProxy sends requests to, by application; None while it does not tell."""


def application(namespace: str, ray_service: str) -> str:
    """Name of the Serve application of a RayService."""
    return ray_service if namespace == "default" else f"{namespace}.{ray_service}"


def main_prefix(namespace: str, deployment: str) -> str:
    """Path under which a deployment answers."""
    return f"/{deployment}" if namespace == "default" else f"/{namespace}/{deployment}"


def revision_prefix(namespace: str, ray_service: str) -> str:
    """Path under which a revision without traffic answers."""
    return f"/.revisions/{application(namespace, ray_service)}"
