"""Checkpoints of the NumPy engine: files named by epoch and digest, of which the newest few are kept.

They are written while training goes on, one at a time.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from eagleray_runtime.storage import Store

log = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(?P<epoch>\d{10})-(?P<digest>[0-9a-f]{64})\.safetensors")


class Checkpoints:
    """The checkpoints of one training in a folder of a store; every method raises StoreRefused as the store does.

    As a context it waits in the end for the one that is being written.
    """

    def __init__(self, store: Store, keep: int) -> None:
        """Keep so many of them, at least one."""
        self._store = store
        self._keep = keep
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None:
            self._written()

    def write(self, epoch: int, content: bytes) -> None:
        """Begin to put the state after that epoch, when the one before it has been put."""
        self._written()
        self._writing = self._thread.submit(self._put, epoch, content)

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _put(self, epoch: int, content: bytes) -> None:
        """Put a state, and remove those that are too many, the oldest first."""
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
