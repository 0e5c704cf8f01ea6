"""Live objects as the watches told them last, found by address, by UID, by owner or by what they refer to."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Manifest, Ref

REMEMBERED_DELETIONS = 10_000
"""Deleted objects that are remembered, so that a watch which starts again from the past does not bring them back."""


class Known(NamedTuple):
    """What is kept of an object: its text, which takes a fifth of the room of the object, and what is asked of it often."""

    uid: str
    version: int
    generation: int | None
    owners: tuple[str, ...]
    followed: Ref | None
    text: bytes

    @classmethod
    def of(cls, manifest: Manifest) -> "Known":
        """Who has set which field concerns nobody here, and takes as much room as the object itself."""
        metadata = manifest["metadata"]
        lean = {**manifest, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
        return cls(
            uid=metadata.get("uid", ""),
            version=_version(manifest),
            generation=metadata.get("generation"),
            owners=tuple(owners(manifest)),
            followed=_followed(manifest),
            text=json.dumps(lean, separators=(",", ":"), ensure_ascii=False).encode(),
        )

    def is_of(self, manifest: Manifest) -> bool:
        """Whether it is kept of that very version of the object."""
        return self.uid == manifest["metadata"].get("uid", "") and self.version == _version(manifest)

    @property
    def manifest(self) -> Manifest:
        """The object, a new copy each time."""
        found: Manifest = json.loads(self.text)
        return found


def owners(manifest: Manifest) -> list[str]:
    """UIDs of the owners of an object."""
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or []]


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"].get("resourceVersion") or 0)


def _followed(manifest: Manifest) -> Ref | None:
    """The TrainingJob that a ModelDeployment takes its model from, or another TrainingJob starts from."""
    if manifest["kind"] not in (names.MODEL_DEPLOYMENT, names.TRAINING_JOB):
        return None
    model = (manifest.get("spec") or {}).get("model") or {}
    follower = model if manifest["kind"] == names.MODEL_DEPLOYMENT else model.get("startFrom") or {}
    name = (follower.get("trainingJobRef") or {}).get("name")
    return Ref(names.TRAINING_JOB, manifest["metadata"]["namespace"], name) if name else None


class Cache:
    """Objects by address, with indexes; never goes back to an older version of one, nor to one that was deleted."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Ref, Known]] = {}
        self._refs: dict[str, Ref] = {}
        self._owned: dict[str, set[Ref]] = {}
        self._followers: dict[Ref, set[Ref]] = {}
        self._deleted: OrderedDict[str | Ref, None] = OrderedDict()

    def known(self, ref: Ref) -> Known | None:
        """What is kept of the live object of that address."""
        return self._objects.get(ref.kind, {}).get(ref)

    def get(self, ref: Ref) -> Manifest | None:
        """The live object of that address."""
        known = self.known(ref)
        return known.manifest if known is not None else None

    def of_kind(self, kind: str) -> list[Manifest]:
        """All live objects of a kind."""
        return [known.manifest for known in self._objects.get(kind, {}).values()]

    def refs(self, kind: str) -> set[Ref]:
        """Addresses of all live objects of a kind."""
        return set(self._objects.get(kind, ()))

    def uids(self, kind: str) -> set[str]:
        """UIDs of all live objects of a kind."""
        return {known.uid for known in self._objects.get(kind, {}).values()}

    def put(self, manifest: Manifest) -> bool:
        """Take in a version of an object; False if a newer one is known already, or its deletion.

        The echo of our own write is no news to the cache, but it is to others that look at the object.
        """
        new = Known.of(manifest)
        if new.uid in self._deleted:
            return False
        ref = Ref.of(manifest)
        known = self.known(ref)
        if known is not None:
            # Versions of one kind are numbers of one row, also from one object of a name to the next.
            if new.version < known.version:
                return False
            self._unlink(ref, known)
            if known.uid != new.uid:
                self._bury(known.uid, ref)
        self._objects.setdefault(ref.kind, {})[ref] = new
        self._refs[new.uid] = ref
        for uid in new.owners:
            self._owned.setdefault(uid, set()).add(ref)
        if new.followed is not None:
            self._followers.setdefault(new.followed, set()).add(ref)
        return True

    def remove(self, manifest: Manifest) -> bool:
        """Forget an object that was deleted; False if it is another one's name by now."""
        ref, uid = Ref.of(manifest), manifest["metadata"].get("uid", "")
        known = self.known(ref)
        self._bury(uid, ref)
        if known is None or known.uid != uid:
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
                if ref not in found and (known := self.known(ref)) is not None:
                    found[ref] = known.manifest
                    pending.append(known.uid)
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

    def _unlink(self, ref: Ref, known: Known) -> None:
        self._refs.pop(known.uid, None)
        for uid in known.owners:
            _discard(self._owned, uid, ref)
        if known.followed is not None:
            _discard(self._followers, known.followed, ref)

    def _bury(self, uid: str, ref: Ref) -> None:
        for key in (uid, ref):
            self._deleted[key] = None
        while len(self._deleted) > 2 * REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def _discard(index: dict[Any, set[Ref]], key: Any, ref: Ref) -> None:
    index.get(key, set()).discard(ref)
    if not index.get(key):
        index.pop(key, None)
