"""What the controller asks of a cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Manifest = dict[str, Any]


class Kind(NamedTuple):
    """A kind of object and how it is addressed."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """As an object's `apiVersion` has it."""
        return f"{self.group}/{self.version}" if self.group else self.version


KINDS = {
    kind.kind: kind
    for kind in (
        Kind("eagleray.io", "v1alpha1", "TrainingJob", "trainingjobs"),
        Kind("eagleray.io", "v1alpha1", "ModelDeployment", "modeldeployments"),
        Kind("ray.io", "v1", "RayJob", "rayjobs"),
        Kind("ray.io", "v1", "RayService", "rayservices"),
        Kind("ray.io", "v1", "RayCluster", "rayclusters"),
        Kind("", "v1", "Pod", "pods"),
        Kind("", "v1", "ConfigMap", "configmaps"),
        Kind("", "v1", "Secret", "secrets"),
        Kind("", "v1", "Service", "services"),
        Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    )
}
"""Every kind that the operator deals with."""


class Ref(NamedTuple):
    """Address of an object."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Ref":
        """Address of that object."""
        metadata = manifest["metadata"]
        return cls(manifest["kind"], metadata["namespace"], metadata["name"])


@dataclass(frozen=True)
class Event:
    """Something to tell beside the resource (`kubectl describe`)."""

    type: str
    reason: str
    action: str
    message: str


@dataclass(frozen=True)
class TokenIdentity:
    """Who a token belongs to, as the apiserver says."""

    pod_name: str
    pod_uid: str
    namespace: str


class ClusterError(Exception):
    """The cluster refused or did not answer; `status` is its HTTP status (0: no answer), the text its own words."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def is_refusal(self) -> bool:
        """Whether the cluster will not have the object as it is, however often it is asked."""
        if self.status == 500 and "field not declared in schema" in self.message:
            # The apiserver's way to say of an apply that a definition, such as KubeRay's, is older than the object.
            return True
        return 400 <= self.status < 500 and self.status not in (404, 408, 409, 410, 429)


class Cluster(Protocol):
    """A cluster; every method raises ClusterError when it is refused."""

    async def get(self, ref: Ref) -> Manifest | None:
        """The live object, or None if there is none."""

    async def list_all(self, kind: str) -> list[Manifest]:
        """All objects of a kind that concern us: our own two kinds whole, of the others those that carry our label."""

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as field manager `eagleray`, taking over fields that others set; returns the live object."""

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create and return the live object; None if there is one of that name already, which is left as it is."""

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]]) -> Manifest:
        """JSON patch (RFC 6902); returns the live object."""

    async def write_status(self, resource: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Make `status` the whole status, provided that the object is still at the resourceVersion of `resource`."""

    async def delete(self, ref: Ref, uid: str, version: str | None = None) -> None:
        """Delete the object of that UID and, by the garbage collector, what it owns; gone already is fine.

        With a version also only as it was then: its change, of which the watch tells, is the reason to judge it anew.
        """

    async def record(self, resource: Manifest, event: Event) -> None:
        """Write an event about the resource."""

    async def serves(self, kind: str) -> bool:
        """Whether the cluster knows that kind."""

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        """The pod that the token belongs to; None if it is not valid for the audience or not of a pod."""


@dataclass(frozen=True)
class ProbeResult:
    """What a real request to the replicas of a revision answered."""

    ready: bool
    message: str = ""
    digest: str | None = None
    engine: str | None = None


class Addresses(Protocol):
    """Where deployments answer, and whether they do."""

    def url(self, namespace: str, deployment: str) -> str:
        """Address of a deployment: the root of the inference protocol (`<url>/v2/models/<name>/infer`)."""

    async def probe(self, namespace: str, deployment: str, revision: str, *, active: bool) -> ProbeResult:
        """Ask the model itself: through the deployment's Service if the revision is `active`, else past it."""
