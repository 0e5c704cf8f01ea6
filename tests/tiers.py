"""Runs the test tiers one after the other, the fast ones first, and says of each how it went and how long it took.

    python -m tests.tiers [TIER ...]

A tier that this machine cannot run says so by name and does not fail the rest; whatever can run must pass.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FAST = "not (torch or ray or integration or faults or e2e)"
TORCH_FREE_BYTES = 15 * 2**30


@dataclass(frozen=True)
class Tier:
    """One tier: its pytest marker expression, and what it needs; `missing` returns the words for what is not there."""

    name: str
    markers: str
    about: str
    missing: Callable[[], str | None] = lambda: None
    python: Callable[[], str] = lambda: sys.executable


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("EAGLERAY_CACHE") or Path(base) / "eagleray")


def python_with_torch() -> str:
    """An environment of its own: torch is 5 GB, and .venv without it proves that the NumPy engine needs none."""
    lock = REPOSITORY / "requirements" / "all.txt"
    key = hashlib.sha256(lock.read_bytes() + str(REPOSITORY).encode()).hexdigest()[:12]
    folder = cache() / f"torch-{key}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
        run([*install, "--compile-bytecode", "--require-hashes", "-r", str(lock)])
        run([*install, "--no-deps", "--editable", str(REPOSITORY)])
        done.touch()
    return str(python)


def run(command: list[str]) -> None:
    subprocess.run(command, cwd=REPOSITORY, check=True)


def no_room_for_torch() -> str | None:
    existing = next(folder for folder in (cache(), *cache().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if any(cache().glob("torch-*/complete")) or free >= TORCH_FREE_BYTES:
        return None
    return f"torch needs {TORCH_FREE_BYTES // 2**30} GB of disk, {free // 2**30} GB are free under {existing}"


def no_go() -> str | None:
    if shutil.which("go") or Path("/usr/local/go/bin/go").exists():
        return None
    return "Go is missing, from which kube-apiserver and etcd are built: install it"


def no_node() -> str | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a node needs root on Linux"
    return no_go()


TIERS = (
    Tier("fast", FAST, "decisions, builders, engines, protocol, chart"),
    Tier("ray", "ray and not torch", "train and serve on a private Ray of this machine"),
    Tier("torch", "torch", "the torch engine, and NumPy's gradients against autograd", no_room_for_torch, python_with_torch),
    Tier("integration", "integration", "the operator on a real kube-apiserver and etcd", no_go),
    Tier("faults", "faults", "killed, cut off and lied to, it ends like the undisturbed run", no_go),
    Tier("e2e", "e2e", "a whole Kubernetes node with KubeRay, Ray pods, Helm and Prometheus", no_node),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=", ".join(tier.name for tier in TIERS))
    wanted = parser.parse_args().tiers or [tier.name for tier in TIERS]
    unknown = set(wanted) - {tier.name for tier in TIERS}
    if unknown:
        parser.error(f"no such tier: {', '.join(sorted(unknown))}")
    rows: list[tuple[str, str, float]] = []
    for tier in (tier for tier in TIERS if tier.name in wanted):
        print(f"\n=== {tier.name}: {tier.about}", flush=True)
        if (why := tier.missing()) is not None:
            print(f"cannot run here: {why}")
            rows.append((tier.name, f"cannot run here: {why}", 0.0))
            continue
        begin = time.monotonic()
        command = [tier.python(), "-m", "pytest", "-q", "-m", tier.markers, "tests"]
        code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        rows.append((tier.name, "passed" if code == 0 else f"FAILED (pytest's exit code {code})", time.monotonic() - begin))
    print("\n=== tiers")
    for name, outcome, seconds in rows:
        print(f"{name:12} {seconds:6.0f} s  {outcome}")
    return 1 if any("FAILED" in outcome for _, outcome, _ in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
