"""Runs the test tiers, those that mostly wait side by side, and says of each how it went and how long it took.

    python -m tests.tiers [TIER ...]

A tier that this machine cannot run says so by name and does not fail the rest; whatever can run must pass.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[1]
FAST = "not (torch or ray or integration or faults or e2e)"
TORCH_FREE_BYTES = 15 * 2**30


@dataclass(frozen=True)
class Tier:
    """One tier: its pytest marker expression, and what it needs; `missing` returns the words for what is not there.

    Tiers of different lanes run beside one another, those of one lane in turn, and those of none come last, each alone.
    """

    name: str
    markers: str
    about: str
    missing: Callable[[], str | None] = lambda: None
    python: Callable[[], str] = lambda: sys.executable
    lane: str = ""


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


# The tier of faults mostly waits: for a lease to end, for an outage to be over.
TIERS = (
    Tier("fast", FAST, "decisions, builders, engines, protocol, chart", lane="main"),
    Tier("ray", "ray and not torch", "train and serve on a private Ray of this machine", lane="main"),
    Tier("torch", "torch", "the torch engine, NumPy's gradients by autograd", no_room_for_torch, python_with_torch, "main"),
    Tier("integration", "integration", "the operator on a real kube-apiserver and etcd", no_go, lane="main"),
    Tier("faults", "faults", "killed, cut off and lied to, it ends like the undisturbed run", no_go, lane="faults"),
    Tier("e2e", "e2e", "a whole Kubernetes node with KubeRay, Ray pods, Helm and Prometheus", no_node),
)


@dataclass(frozen=True)
class Outcome:
    """How a tier went; `seconds` is its own time, whatever ran beside it."""

    tier: Tier
    words: str
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.words.startswith("FAILED")


def perform(tier: Tier, output: IO[bytes] | None = None) -> Outcome:
    """Run one tier; its output goes to the file, or with None to where ours goes."""
    begin = time.monotonic()
    command = [tier.python(), "-m", "pytest", "-q", "-m", tier.markers, "tests"]
    code = subprocess.run(command, cwd=REPOSITORY, check=False, stdout=output, stderr=output).returncode
    return Outcome(tier, "passed" if code == 0 else f"FAILED (pytest's exit code {code})", time.monotonic() - begin)


def captured(tier: Tier) -> tuple[Outcome, str]:
    """Run one tier; returns what it printed as well."""
    with tempfile.TemporaryFile() as output:
        outcome = perform(tier, output)
        output.seek(0)
        return outcome, output.read().decode(errors="replace")


def side_by_side(tiers: list[Tier]) -> Iterator[Outcome]:
    """Run the tiers of each lane one after the other, the lanes beside one another; what a tier prints comes when it ends."""
    print(f"\n=== at the same time: {', '.join(tier.name for tier in tiers)}", flush=True)
    with ExitStack() as stack:
        lanes = {tier.lane: stack.enter_context(ThreadPoolExecutor(max_workers=1)) for tier in tiers}
        for future in as_completed([lanes[tier.lane].submit(captured, tier) for tier in tiers]):
            outcome, printed = future.result()
            print(f"\n=== {outcome.tier.name}: {outcome.tier.about}\n{printed}", flush=True)
            yield outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=", ".join(tier.name for tier in TIERS))
    wanted = parser.parse_args().tiers or [tier.name for tier in TIERS]
    unknown = set(wanted) - {tier.name for tier in TIERS}
    if unknown:
        parser.error(f"no such tier: {', '.join(sorted(unknown))}")
    missing = {tier: tier.missing() for tier in TIERS if tier.name in wanted}
    outcomes = [Outcome(tier, f"cannot run here: {why}") for tier, why in missing.items() if why is not None]
    able = [tier for tier, why in missing.items() if why is None]
    beside = [tier for tier in able if tier.lane] if len(able) > 1 else []
    outcomes += side_by_side(beside) if beside else []
    for tier in able:
        if tier not in beside:
            print(f"\n=== {tier.name}: {tier.about}", flush=True)
            outcomes.append(perform(tier))
    print("\n=== tiers")
    for outcome in outcomes:
        print(f"{outcome.tier.name:12} {outcome.seconds:6.0f} s  {outcome.words}")
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
