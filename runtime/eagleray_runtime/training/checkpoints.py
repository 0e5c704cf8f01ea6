"""Checkpoints of the NumPy engine: files named by epoch and digest, of which the newest few are kept."""

import hashlib
import logging
import re
from collections.abc import Iterator

from eagleray_runtime.storage import Store

log = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(?P<epoch>\d{10})-(?P<digest>[0-9a-f]{64})\.safetensors")


class Checkpoints:
    """The checkpoints of one training in a folder of a store; every method raises StoreRefused as the store does."""

    def __init__(self, store: Store, keep: int) -> None:
        """Keep so many of them, at least one."""
        self._store = store
        self._keep = keep

    def write(self, epoch: int, content: bytes) -> None:
        """Put the state after that epoch, and remove those that are too many, the oldest first."""
        self._store.write(f"checkpoint-{epoch:010}-{hashlib.sha256(content).hexdigest()}.safetensors", content)
        for name in self._names()[self._keep :]:
            self._store.remove(name)

    def newest_first(self) -> Iterator[bytes]:
        """Their contents; one that is not what was written is left out."""
        for name in self._names():
            content = self._store.read(name)
            found = NAME.fullmatch(name)
            if found is not None and hashlib.sha256(content).hexdigest() == found["digest"]:
                yield content
            else:
                log.warning("%s is not the file that was written: the one before it is taken", name)

    def _names(self) -> list[str]:
        return sorted((name for name in self._store.names("checkpoint-*") if NAME.fullmatch(name)), reverse=True)
