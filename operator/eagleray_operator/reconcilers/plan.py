"""What a reconciler sees and what it decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eagleray_operator.cluster.port import Event, Manifest, ProbeResult, Ref
from eagleray_runtime.contract.reports import Report


@dataclass(frozen=True)
class Observed:
    """What the controller knows of a resource's surroundings at one moment.

    `children` are live objects that the resource owns, directly or through KubeRay's objects, by their address. `absent`
    are references that were looked up and not found. `probes` are answers of revisions by RayService name, `url` is
    where a deployment answers. `refused` are the cluster's words about children that it would not have.
    """

    children: Mapping[Ref, Manifest] = field(default_factory=dict)
    references: Mapping[Ref, Manifest] = field(default_factory=dict)
    absent: frozenset[Ref] = frozenset()
    missing_kinds: tuple[str, ...] = ()
    conflicts: Mapping[Ref, str] = field(default_factory=dict)
    probes: Mapping[str, ProbeResult] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()
    url: str | None = None
    refused: Mapping[Ref, str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Manifest]:
        """Live children of that kind, by name."""
        return [child for ref, child in sorted(self.children.items()) if ref.kind == kind]

    def child(self, ref: Ref) -> Manifest | None:
        """The live child of that address."""
        return self.children.get(ref)


@dataclass(frozen=True)
class Patch:
    """A JSON patch of an object that another controller owns."""

    ref: Ref
    operations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Deletion:
    """An object to delete, if it still has that UID and, where one is set, that resourceVersion.

    A version is set where the object's own status decides: what was seen may be old by minutes when the watch is down.
    """

    ref: Ref
    uid: str
    version: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done now, in this order; an empty plan writes nothing.

    `ensure` are objects that are created and never read (Secrets); one whose owner has no UID yet belongs to a child of
    `apply` and follows it. `status` is the whole new status. `requeue_after` is
    seconds until the resource is looked at again without any event.
    """

    ensure: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    patch: tuple[Patch, ...] = ()
    delete: tuple[Deletion, ...] = ()
    status: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
