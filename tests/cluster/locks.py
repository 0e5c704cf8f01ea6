"""One command at a time on one thing; the kernel lets go of the lock when its holder is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold a lock file, waiting for whoever has it, and yield its descriptor.

    The descriptor is not inherited unless it is handed on. A compiler or image build that gets it keeps the lock when
    its parent is killed: the next command then waits until that orphan has ended and does not work in its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
