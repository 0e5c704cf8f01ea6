"""Where a URI is reached from within a pod: the location that the runtime reads, and what must be mounted for it."""

from dataclasses import dataclass
from typing import Any

from eagleray_runtime.contract import names as runtime_names
from eagleray_runtime.contract.config import Location


@dataclass(frozen=True)
class Store:
    """A URI with what a pod needs to reach it; `use` names its volumes (data, output, checkpoints, base, model)."""

    use: str
    uri: str
    secret: str | None = None
    read_only: bool = True

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim of a pvc:// URI."""
        if not self.uri.startswith("pvc://"):
            return None
        return self.uri.removeprefix("pvc://").split("/", 1)[0]

    @property
    def location(self) -> Location:
        """What the runtime is told."""
        directory = f"{runtime_names.SECRET_ROOT}/{self.use}" if self.secret else None
        return Location(uri=self.uri, secret_directory=directory)

    def under(self, path: str) -> Location:
        """A location below this one."""
        return self.location.model_copy(update={"uri": f"{self.uri.rstrip('/')}/{path}"})

    def volumes(self) -> list[dict[str, Any]]:
        """Volumes of the pod.

        A Secret is optional here so that a missing one is told by the runtime as the store's refusal, in words, rather
        than leaving the pod waiting in silence.
        """
        volumes: list[dict[str, Any]] = []
        if self.secret:
            volumes.append({"name": f"{self.use}-secret", "secret": {"secretName": self.secret, "optional": True}})
        if self.claim:
            volumes.append({"name": f"claim-{self.claim}", "persistentVolumeClaim": {"claimName": self.claim}})
        return volumes

    def mounts(self) -> list[dict[str, Any]]:
        """Mounts of the Ray container."""
        mounts: list[dict[str, Any]] = []
        if self.secret:
            path = f"{runtime_names.SECRET_ROOT}/{self.use}"
            mounts.append({"name": f"{self.use}-secret", "mountPath": path, "readOnly": True})
        if self.claim:
            path = f"{runtime_names.PVC_ROOT}/{self.claim}"
            mounts.append({"name": f"claim-{self.claim}", "mountPath": path, "readOnly": self.read_only})
        return mounts


def volumes_of(stores: list[Store]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts of several stores; a claim that two of them use is mounted once, writable if one writes."""
    volumes: dict[str, dict[str, Any]] = {}
    mounts: dict[str, dict[str, Any]] = {}
    for store in stores:
        for volume in store.volumes():
            volumes[volume["name"]] = volume
        for mount in store.mounts():
            known = mounts.get(mount["mountPath"])
            writable = not mount["readOnly"] or (known is not None and not known["readOnly"])
            mounts[mount["mountPath"]] = mount | {"readOnly": not writable}
    return list(volumes.values()), list(mounts.values())
