"""Live objects as the watches told them last, found by address or by owner."""

from collections.abc import Iterable

from eagleray_operator.cluster.port import Manifest, Ref


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"].get("resourceVersion") or 0)


def owners(manifest: Manifest) -> list[str]:
    """UIDs of the owners of an object."""
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or []]


class Cache:
    """Objects by address and by the UID of their owner; never goes back to an older version of one."""

    def __init__(self) -> None:
        self._objects: dict[Ref, Manifest] = {}
        self._owned: dict[str, set[Ref]] = {}

    def get(self, ref: Ref) -> Manifest | None:
        """The live object of that address."""
        return self._objects.get(ref)

    def of_kind(self, kind: str) -> list[Manifest]:
        """All live objects of a kind."""
        return [manifest for ref, manifest in self._objects.items() if ref.kind == kind]

    def refs(self, kind: str) -> set[Ref]:
        """Addresses of all live objects of a kind."""
        return {ref for ref in self._objects if ref.kind == kind}

    def put(self, manifest: Manifest) -> bool:
        """Take in a version of an object; False if a newer one is known already.

        The echo of our own write is no news to the cache, but it is to others that look at the object.
        """
        ref = Ref.of(manifest)
        known = self._objects.get(ref)
        if known is not None:
            if known["metadata"].get("uid") == manifest["metadata"].get("uid") and _version(manifest) < _version(known):
                return False
            self._disown(ref, known)
        self._objects[ref] = manifest
        for uid in owners(manifest):
            self._owned.setdefault(uid, set()).add(ref)
        return True

    def remove(self, manifest: Manifest) -> bool:
        """Forget an object that was deleted; False if it is another one's name by now."""
        ref = Ref.of(manifest)
        known = self._objects.get(ref)
        if known is None or known["metadata"].get("uid") != manifest["metadata"].get("uid"):
            return False
        self._disown(ref, known)
        del self._objects[ref]
        return True

    def descendants(self, uid: str) -> dict[Ref, Manifest]:
        """Objects that the object of that UID owns, directly or through others."""
        found: dict[Ref, Manifest] = {}
        pending = [uid]
        while pending:
            for ref in self._owned.get(pending.pop(), ()):
                if ref not in found:
                    found[ref] = self._objects[ref]
                    pending.append(self._objects[ref]["metadata"]["uid"])
        return found

    def by_uid(self, uids: Iterable[str], kinds: Iterable[str]) -> list[Manifest]:
        """Live objects of those kinds that have one of the UIDs."""
        wanted = set(uids)
        return [manifest for kind in kinds for manifest in self.of_kind(kind) if manifest["metadata"]["uid"] in wanted]

    def _disown(self, ref: Ref, manifest: Manifest) -> None:
        for uid in owners(manifest):
            self._owned.get(uid, set()).discard(ref)
            if not self._owned.get(uid):
                self._owned.pop(uid, None)
