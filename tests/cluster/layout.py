"""Where everything lives: one cache folder outside the checkout, so that a fresh clone finds earlier builds."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parents[1]
GO_MODULES = PACKAGE / "go"


def cache_folder() -> Path:
    """Return the cache folder, which several checkouts share."""
    explicit = os.environ.get("EAGLERAY_CACHE")
    if explicit:
        return Path(explicit).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return (Path(base).expanduser() / "eagleray").resolve()


@dataclass(frozen=True)
class NodeLayout:
    """The files of one node.

    Two lifetimes are kept apart: `run` is thrown away whenever the node starts afresh, `store` (pulled and imported
    images) survives, because importing them again is what would make a warm start slow.
    """

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def records(self) -> Path:
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def store(self) -> Path:
        return self.root / "containerd"

    @property
    def name(self) -> str:
        """A name for things that live in machine-wide tables (network namespaces, cgroups).

        It is derived from the folder, so two nodes in two caches never meet, and a node finds again what it left.
        """
        return "eagleray-" + hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
