"""Live objects as the watches told them last, found by address, by UID, by owner or by what they refer to."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Manifest, Ref

REMEMBERED_DELETIONS = 10_000
"""Deleted objects that are remembered, so that a watch which starts again from the past does not bring them back."""


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"].get("resourceVersion") or 0)


def owners(manifest: Manifest) -> list[str]:
    """UIDs of the owners of an object."""
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or []]


def _followed(manifest: Manifest) -> Ref | None:
    """The TrainingJob that a ModelDeployment takes its model from."""
    if manifest["kind"] != names.MODEL_DEPLOYMENT:
        return None
    model = (manifest.get("spec") or {}).get("model") or {}
    name = (model.get("trainingJobRef") or {}).get("name")
    return Ref(names.TRAINING_JOB, manifest["metadata"]["namespace"], name) if name else None


class Cache:
    """Objects by address, with indexes; never goes back to an older version of one, nor to one that was deleted."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Ref, Manifest]] = {}
        self._refs: dict[str, Ref] = {}
        self._owned: dict[str, set[Ref]] = {}
        self._followers: dict[Ref, set[Ref]] = {}
        self._deleted: OrderedDict[str | Ref, None] = OrderedDict()

    def get(self, ref: Ref) -> Manifest | None:
        """The live object of that address."""
        return self._objects.get(ref.kind, {}).get(ref)

    def of_kind(self, kind: str) -> list[Manifest]:
        """All live objects of a kind."""
        return list(self._objects.get(kind, {}).values())

    def refs(self, kind: str) -> set[Ref]:
        """Addresses of all live objects of a kind."""
        return set(self._objects.get(kind, ()))

    def put(self, manifest: Manifest) -> bool:
        """Take in a version of an object; False if a newer one is known already, or its deletion.

        The echo of our own write is no news to the cache, but it is to others that look at the object.
        """
        metadata = manifest["metadata"]
        if metadata.get("uid") in self._deleted:
            return False
        ref = Ref.of(manifest)
        known = self.get(ref)
        if known is not None:
            # Versions of one kind are numbers of one row, also from one object of a name to the next.
            if _version(manifest) < _version(known):
                return False
            self._unlink(ref, known)
            if known["metadata"].get("uid") != metadata.get("uid"):
                self._bury(known)
        if "managedFields" in metadata:
            # Who has set which field concerns nobody here, and takes as much room as the object itself.
            metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
            manifest = {**manifest, "metadata": metadata}
        self._objects.setdefault(ref.kind, {})[ref] = manifest
        self._link(ref, manifest)
        return True

    def remove(self, manifest: Manifest) -> bool:
        """Forget an object that was deleted; False if it is another one's name by now."""
        ref = Ref.of(manifest)
        known = self.get(ref)
        self._bury(manifest)
        if known is None or known["metadata"].get("uid") != manifest["metadata"].get("uid"):
            return False
        self._unlink(ref, known)
        del self._objects[ref.kind][ref]
        return True

    def descendants(self, uid: str) -> dict[Ref, Manifest]:
        """Objects that the object of that UID owns, directly or through others."""
        found: dict[Ref, Manifest] = {}
        pending = [uid]
        while pending:
            for ref in self._owned.get(pending.pop(), ()):
                if ref not in found and (owned := self.get(ref)) is not None:
                    found[ref] = owned
                    pending.append(owned["metadata"]["uid"])
        return found

    def by_uid(self, uids: Iterable[str], kinds: Iterable[str]) -> list[Manifest]:
        """Live objects of those kinds that have one of the UIDs."""
        wanted = set(kinds)
        refs = [self._refs[uid] for uid in uids if uid in self._refs]
        return [found for ref in refs if ref.kind in wanted and (found := self.get(ref)) is not None]

    def was_deleted(self, ref: Ref) -> bool:
        """Whether an object of that address was deleted, not long ago."""
        return ref in self._deleted

    def followers(self, job: Ref) -> set[Ref]:
        """Addresses of the ModelDeployments that take their model from that TrainingJob."""
        return set(self._followers.get(job, ()))

    def _link(self, ref: Ref, manifest: Manifest) -> None:
        self._refs[manifest["metadata"].get("uid", "")] = ref
        for uid in owners(manifest):
            self._owned.setdefault(uid, set()).add(ref)
        if (job := _followed(manifest)) is not None:
            self._followers.setdefault(job, set()).add(ref)

    def _unlink(self, ref: Ref, manifest: Manifest) -> None:
        self._refs.pop(manifest["metadata"].get("uid", ""), None)
        for uid in owners(manifest):
            _discard(self._owned, uid, ref)
        if (job := _followed(manifest)) is not None:
            _discard(self._followers, job, ref)

    def _bury(self, manifest: Manifest) -> None:
        for key in (manifest["metadata"].get("uid", ""), Ref.of(manifest)):
            self._deleted[key] = None
        while len(self._deleted) > 2 * REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def _discard(index: dict[Any, set[Ref]], key: Any, ref: Ref) -> None:
    index.get(key, set()).discard(ref)
    if not index.get(key):
        index.pop(key, None)
