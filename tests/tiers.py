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
    environment: Callable[[], dict[str, str]] = dict


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("EAGLERAY_CACHE") or Path(base) / "eagleray")


def with_torch() -> dict[str, str]:
    """The environment in which torch is found: 5 GB beside .venv, which proves without it that the NumPy engine needs none.

    It holds what the lock names and nothing of this checkout, so that all checkouts share it, for one version of Python each.
    """
    lock = REPOSITORY / "requirements" / "all.txt"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache() / f"torch-{key}"
    done = folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
        command = [*install, "--target", str(folder), "--compile-bytecode", "--require-hashes", "-r", str(lock)]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        done.touch()
    return {"PYTHONPATH": str(folder)}


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
    Tier("torch", "torch", "the torch engine, and NumPy's gradients against autograd", no_room_for_torch, with_torch),
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
        command = [sys.executable, "-m", "pytest", "-q", "-m", tier.markers, "tests"]
        code = subprocess.run(command, cwd=REPOSITORY, env=os.environ | tier.environment(), check=False).returncode
        rows.append((tier.name, "passed" if code == 0 else f"FAILED (pytest's exit code {code})", time.monotonic() - begin))
    print("\n=== tiers")
    for name, outcome, seconds in rows:
        print(f"{name:12} {seconds:6.0f} s  {outcome}")
    return 1 if any("FAILED" in outcome for _, outcome, _ in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
