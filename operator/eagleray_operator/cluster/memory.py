"""A cluster in memory that answers as the kube-apiserver and its garbage collector do, for local mode and for tests.

It holds whole objects by address. What it knows of the apiserver: UIDs, resource versions, generations, the status
subresource, server-side apply of one field manager, JSON patch, finalizers, owner references and watches. It runs no pods.
"""

import asyncio
import contextlib
import copy
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.cluster.port import KINDS, ClusterError, Event, Manifest, Ref, TokenIdentity

Admit = Callable[[Manifest, Manifest | None], Manifest]
"""Fills defaults into a new object (second argument: the one that it replaces) or raises ClusterError."""

Watcher = Callable[[str, Manifest], None]
"""Told of each change: ADDED, MODIFIED or DELETED, and the object as it was then."""

STATUS_KINDS = frozenset({"TrainingJob", "ModelDeployment", "RayJob", "RayService", "RayCluster", "Pod", "PersistentVolumeClaim"})
"""Kinds whose status is written apart from the rest."""

_SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
_SPEC_KINDS = frozenset({"TrainingJob", "ModelDeployment", "RayJob", "RayService", "RayCluster"})


def _accept(manifest: Manifest, old: Manifest | None) -> Manifest:
    return manifest


class MemoryCluster:
    """The objects of one cluster."""

    def __init__(
        self,
        *,
        admit: Mapping[str, Admit] | None = None,
        kinds: Collection[str] = KINDS.keys(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`admit` judges objects by kind; `kinds` are those that the cluster knows."""
        self.events: list[tuple[Ref, Event]] = []
        self.tokens: dict[str, TokenIdentity] = {}
        self._admit = dict(admit or {})
        self._kinds = set(kinds)
        self._clock = clock
        self._objects: dict[Ref, Manifest] = {}
        self._applied: dict[Ref, Manifest] = {}
        self._version = 0
        self._watchers: list[Watcher] = []

    # What the controller asks of a cluster

    async def get(self, ref: Ref) -> Manifest | None:
        """The live object, or None if there is none."""
        await self._turn(ref.kind)
        return copy.deepcopy(self._objects.get(ref))

    async def list_all(self, kind: str) -> list[Manifest]:
        """All objects of a kind that concern us: our own two kinds whole, of the others those that carry our label."""
        await self._turn(kind)
        return [
            manifest
            for manifest in self.of_kind(kind)
            if kind in names.RESOURCE_LABEL
            or (manifest["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        ]

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as field manager `eagleray`.

        Fields that the manifest names are set, fields that it named the last time and names no more are removed unless
        somebody else has set them to something else, all others stay. Lists are values.
        """
        ref = Ref.of(manifest)
        await self._turn(ref.kind)
        wanted = copy.deepcopy(manifest)
        if ref.kind in STATUS_KINDS:
            wanted.pop("status", None)
        live = self._objects.get(ref)
        if live is None:
            if wanted["metadata"].get("uid"):
                raise ClusterError(409, f"{_words(ref)}: the UID in the precondition is of an object that is gone")
            applied = copy.deepcopy(wanted)
            created = self._add(wanted)
            if ref in self._objects:
                self._applied[ref] = applied
            return created
        self._check_precondition(live, wanted)
        for field in _SERVER_FIELDS:
            wanted["metadata"].pop(field, None)
        new = copy.deepcopy(live)
        _remove_dropped(new, self._applied.get(ref, {}), wanted)
        _merge(new, wanted)
        result = self._replace(ref, new)
        self._applied[ref] = wanted
        return result

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create and return the live object; None if there is one of that name already, which is left as it is."""
        ref = Ref.of(manifest)
        await self._turn(ref.kind)
        if ref in self._objects:
            return None
        return self._add(copy.deepcopy(manifest))

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]]) -> Manifest:
        """JSON patch (RFC 6902): test, add, replace and remove."""
        await self._turn(ref.kind)
        live = self._existing(ref)
        new = copy.deepcopy(live)
        for operation in operations:
            _patch(new, operation)
        if ref.kind in STATUS_KINDS:
            _keep_status(new, live)
        return self._replace(ref, new)

    async def write_status(self, resource: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Make `status` the whole status, provided that the object is still at the resourceVersion of `resource`."""
        ref = Ref.of(resource)
        await self._turn(ref.kind)
        live = self._existing(ref)
        self._check_precondition(live, resource)
        return self._replace(ref, {**copy.deepcopy(live), "status": copy.deepcopy(dict(status))})

    async def delete(self, ref: Ref, uid: str, version: str | None = None) -> None:
        """Delete the object of that UID, with a version only as it was then, and what it owns; gone already is fine."""
        await self._turn(ref.kind)
        live = self._objects.get(ref)
        if live is None or live["metadata"]["uid"] != uid:
            return
        if version is None or live["metadata"]["resourceVersion"] == version:
            self._delete(ref)

    async def record(self, resource: Manifest, event: Event) -> None:
        """Keep an event about the resource in `events`."""
        await self._turn(resource["kind"])
        self.events.append((Ref.of(resource), event))

    async def serves(self, kind: str) -> bool:
        """Whether the cluster knows that kind."""
        await asyncio.sleep(0)
        return kind in self._kinds

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        """The pod that `tokens` names for the token, if that pod still lives."""
        await asyncio.sleep(0)
        identity = self.tokens.get(token)
        if identity is None:
            return None
        pod = self._objects.get(Ref("Pod", identity.namespace, identity.pod_name))
        return identity if pod is not None and pod["metadata"]["uid"] == identity.pod_uid else None

    # What users and other controllers do

    async def put(self, manifest: Manifest) -> Manifest:
        """Create the object or make its spec, data, labels and annotations those of the manifest, as a user does."""
        ref = Ref.of(manifest)
        await self._turn(ref.kind)
        wanted = copy.deepcopy(manifest)
        if ref.kind in STATUS_KINDS:
            wanted.pop("status", None)
        live = self._objects.get(ref)
        if live is None:
            return self._add(wanted)
        self._check_precondition(live, wanted)
        wanted["metadata"] = {
            **{key: live["metadata"][key] for key in _SERVER_FIELDS if key in live["metadata"]},
            **wanted["metadata"],
        }
        if ref.kind in STATUS_KINDS:
            _keep_status(wanted, live)
        return self._replace(ref, wanted)

    def of_kind(self, kind: str) -> list[Manifest]:
        """All live objects of that kind, by address."""
        return [copy.deepcopy(value) for ref, value in sorted(self._objects.items()) if ref.kind == kind]

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of every object that is there and of every later change: in order, each in a turn of its own."""
        self._watchers.append(watcher)
        for live in self._objects.values():
            self._tell(watcher, "ADDED", live)

    def set_kinds(self, kinds: Iterable[str]) -> None:
        """Change what the cluster knows, as installing or removing KubeRay does."""
        self._kinds = set(kinds)

    # How an object changes

    async def _turn(self, kind: str) -> None:
        """An answer never comes in the same turn of the loop: others may act before it, as on a network."""
        await asyncio.sleep(0)
        if kind not in self._kinds:
            raise ClusterError(404, f"the server could not find the requested resource: it knows no {kind}")

    def _existing(self, ref: Ref) -> Manifest:
        live = self._objects.get(ref)
        if live is None:
            raise ClusterError(404, f"{_words(ref)} not found")
        return live

    def _check_precondition(self, live: Manifest, wanted: Mapping[str, Any]) -> None:
        ref = Ref.of(live)
        for field in ("uid", "resourceVersion"):
            expected = wanted["metadata"].get(field)
            if expected is not None and expected != live["metadata"][field]:
                raise ClusterError(
                    409, f"{_words(ref)}: the object has been modified; please apply your changes to the latest version"
                )

    def _add(self, manifest: Manifest) -> Manifest:
        ref = Ref.of(manifest)
        for field in _SERVER_FIELDS:
            manifest["metadata"].pop(field, None)
        manifest = self._admitted(manifest, None)
        metadata = manifest["metadata"]
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = _stamp(self._clock())
        metadata["resourceVersion"] = self._next_version()
        if ref.kind in _SPEC_KINDS:
            metadata["generation"] = 1
        self._objects[ref] = manifest
        self._announce("ADDED", manifest)
        result = copy.deepcopy(manifest)
        self._collect_garbage()
        return result

    def _replace(self, ref: Ref, new: Manifest) -> Manifest:
        live = self._objects[ref]
        for field in _SERVER_FIELDS:
            if field in live["metadata"]:
                new["metadata"][field] = live["metadata"][field]
            else:
                new["metadata"].pop(field, None)
        new = self._admitted(new, live)
        if new == live:
            return copy.deepcopy(live)
        if live.get("immutable") and any(
            new.get(key) != live.get(key) for key in ("data", "stringData", "binaryData", "immutable")
        ):
            raise ClusterError(422, f"{_words(ref)} is immutable")
        if ref.kind in _SPEC_KINDS and _content(new) != _content(live):
            new["metadata"]["generation"] += 1
        new["metadata"]["resourceVersion"] = self._next_version()
        self._objects[ref] = new
        self._announce("MODIFIED", new)
        result = copy.deepcopy(new)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._forget(ref)
        self._collect_garbage()
        return result

    def _delete(self, ref: Ref) -> None:
        live = self._objects[ref]
        if not live["metadata"].get("finalizers"):
            self._forget(ref)
        elif "deletionTimestamp" not in live["metadata"]:
            new = copy.deepcopy(live)
            new["metadata"]["deletionTimestamp"] = _stamp(self._clock())
            new["metadata"]["resourceVersion"] = self._next_version()
            self._objects[ref] = new
            self._announce("MODIFIED", new)
        self._collect_garbage()

    def _forget(self, ref: Ref) -> None:
        live = self._objects.pop(ref)
        self._applied.pop(ref, None)
        live["metadata"]["resourceVersion"] = self._next_version()
        self._announce("DELETED", live)

    def _collect_garbage(self) -> None:
        """Delete what names owners of which none is left."""
        uids = {live["metadata"]["uid"] for live in self._objects.values()}
        orphans = [
            ref
            for ref, live in self._objects.items()
            if (owners := live["metadata"].get("ownerReferences"))
            and not any(owner["uid"] in uids for owner in owners)
            and "deletionTimestamp" not in live["metadata"]
        ]
        for ref in orphans:
            if ref in self._objects:
                self._delete(ref)

    def _admitted(self, manifest: Manifest, old: Manifest | None) -> Manifest:
        return self._admit.get(manifest["kind"], _accept)(manifest, old)

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _announce(self, event: str, manifest: Manifest) -> None:
        for watcher in self._watchers:
            self._tell(watcher, event, manifest)

    def _tell(self, watcher: Watcher, event: str, manifest: Manifest) -> None:
        asyncio.get_running_loop().call_soon(watcher, event, copy.deepcopy(manifest))


def _words(ref: Ref) -> str:
    return f'{KINDS[ref.kind].plural if ref.kind in KINDS else ref.kind} "{ref.name}"'


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the generation counts changes of."""
    return {key: value for key, value in manifest.items() if key not in ("metadata", "status")}


def _keep_status(new: Manifest, live: Mapping[str, Any]) -> None:
    new.pop("status", None)
    if "status" in live:
        new["status"] = copy.deepcopy(live["status"])


def _merge(target: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def _remove_dropped(target: dict[str, Any], before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Remove what was applied before, is not wanted now and still has the applied value."""
    for key, value in before.items():
        if key not in target:
            continue
        if isinstance(value, dict) and isinstance(target[key], dict):
            kept = wanted.get(key, {})
            _remove_dropped(target[key], value, kept if isinstance(kept, dict) else {})
            if key not in wanted and not target[key]:
                del target[key]
        elif key not in wanted and target[key] == value:
            del target[key]


def _unescape(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


def _patch(document: Any, operation: Mapping[str, Any]) -> None:
    """Apply one operation in place; a failed test or a path that is not there is refused as the apiserver refuses it."""
    kind, path = operation["op"], operation["path"]
    tokens = [_unescape(token) for token in path.split("/")[1:]]
    if not tokens:
        raise ClusterError(422, f"{kind} of the whole document")
    parent = document
    with contextlib.suppress(KeyError, IndexError, ValueError, TypeError):
        for token in tokens[:-1]:
            parent = parent[int(token)] if isinstance(parent, list) else parent[token]
        last: Any = tokens[-1]
        if isinstance(parent, list):
            last = len(parent) if last == "-" else int(last)
        present = last < len(parent) if isinstance(parent, list) else last in parent
        if kind == "add" and isinstance(parent, list):
            if last <= len(parent):
                parent.insert(last, copy.deepcopy(operation["value"]))
                return
        elif kind == "add" or (kind == "replace" and present):
            parent[last] = copy.deepcopy(operation["value"])
            return
        elif kind == "remove" and present:
            del parent[last]
            return
        elif kind == "test" and present and parent[last] == operation["value"]:
            return
        elif kind not in ("add", "replace", "remove", "test"):
            raise ClusterError(422, f"operation {kind} is not one of test, add, replace, remove")
    raise ClusterError(422, f"the server rejected our request due to an error in our request: {kind} {path} failed")
