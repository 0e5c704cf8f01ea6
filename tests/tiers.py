"""Runs the test tiers and says of each how it went and how long it took.

    python -m tests.tiers [--all] [TIER ...]

Tests that are marked slow are left out unless all are asked for.
Most run two at a time, for they wait as much as they compute. The tier faults tells late from lost by the clock: those that run
beside it give way to it. A tier that this machine cannot run says so by name and does not fail the rest; whatever can run must
pass.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.cluster.layout import cache_folder
from tests.support.locks import REPOSITORY, installed, is_installed

FAST = "not (stores or torch or ray or integration or faults or e2e)"
RAY = ("tests/runtime_ray", "tests/local")
TORCH_FREE_BYTES = 15 * 2**30
LONGEST_SECONDS = 3600
"""Of a tier, with what it has to build where nothing is there yet."""


@dataclass(frozen=True)
class Tier:
    """One tier: its pytest marker expression, and what it needs; `missing` returns the words for what is not there.

    All its tests are in `folders`: to collect those of the whole project takes twenty seconds, and a minute with torch.
    """

    name: str
    markers: str
    about: str
    missing: Callable[[], str | None] = lambda: None
    environment: Callable[[], dict[str, str]] = dict
    options: tuple[str, ...] = ()
    folders: tuple[str, ...] = ("tests",)
    gives_way: bool = False


def with_torch() -> dict[str, str]:
    """The environment in which torch is found: 5 GB beside .venv, which proves without it that the NumPy engine needs none."""
    # Threads that wait for one another at each operation lose more to the tiers beside them than they gain on small networks.
    return {"PYTHONPATH": str(installed("torch")), "OMP_NUM_THREADS": "1"}


def no_room_for_torch() -> str | None:
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if is_installed("torch") or free >= TORCH_FREE_BYTES:
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
    Tier("fast", FAST, "decisions, builders, engines, protocol, chart", options=("--numprocesses", "auto")),
    Tier(
        "stores",
        "stores",
        "data, checkpoints and models in emulators of the clouds' stores",
        folders=("tests/stores",),
        gives_way=True,
    ),
    Tier("ray", "ray and not torch", "train and serve on a private Ray of this machine", folders=RAY, gives_way=True),
    Tier(
        "torch",
        "torch",
        "the torch engine, and NumPy's gradients against autograd",
        no_room_for_torch,
        with_torch,
        folders=("tests/unit/runtime", *RAY),
    ),
    Tier(
        "integration",
        "integration",
        "the operator on a real kube-apiserver and etcd",
        no_go,
        folders=("tests/integration", "tests/chart"),
    ),
    Tier("faults", "faults", "killed, cut off and lied to, it ends like the undisturbed run", no_go, folders=("tests/faults",)),
    Tier(
        "e2e",
        "e2e and not (losses or pretrained)",
        "a whole Kubernetes node with KubeRay, Ray pods, Helm and Prometheus",
        no_node,
        folders=("tests/e2e",),
    ),
)


STAGES = (("fast",), ("faults", "ray", "stores"), ("e2e", "torch", "integration"))
"""One after the other; of a stage two tiers run at a time, the longest first."""


@dataclass(frozen=True)
class Outcome:
    """How a tier went; `passed` is None where it cannot run."""

    tier: str
    passed: bool | None
    words: str
    seconds: float = 0.0


def run(tier: Tier, told: Path | None, *, slow: bool) -> Outcome:
    """Run a tier, with its slow tests or without.

    What pytest says goes to `told` if there is one, to be shown in one piece at the end.
    """
    if (why := tier.missing()) is not None:
        say(f"=== {tier.name} cannot run here: {why}")
        return Outcome(tier.name, None, f"cannot run here: {why}")
    say(f"=== {tier.name} begins: {tier.about}")
    begin = time.monotonic()
    markers = tier.markers if slow else f"({tier.markers}) and not slow"
    command = [sys.executable, "-m", "pytest", "-q", *tier.options, "-m", markers, *tier.folders]
    if tier.gives_way:
        command = ["nice", "-n", "10", *command]
    environment = os.environ | tier.environment()
    if told is None:
        code = exit_code(command, environment, None)
    else:
        with told.open("w") as output:
            code = exit_code(command, environment, output)
    seconds = time.monotonic() - begin
    words = "passed" if code == 0 else f"FAILED (pytest's exit code {code})"
    say("\n".join([f"\n=== {tier.name}: {words} after {seconds:.0f} s", told.read_text() if told else ""]))
    return Outcome(tier.name, code == 0, words, seconds)


def exit_code(command: list[str], environment: dict[str, str], output: TextIO | None) -> int:
    """How pytest ends; where it does not end in time it tells where its threads stand, and is ended."""
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output) as process:
        try:
            return process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            return process.wait()


def side_by_side(tiers: list[Tier], *, slow: bool) -> list[Outcome]:
    """Run the tiers of a stage; one that is alone shows what pytest says as it comes."""
    if len(tiers) < 2:
        return [run(tier, None, slow=slow) for tier in tiers]
    with tempfile.TemporaryDirectory(prefix="eagleray-tests-") as folder, ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda tier: run(tier, Path(folder) / tier.name, slow=slow), tiers))


@contextmanager
def node_built_meanwhile(images: list[str]) -> Iterator[None]:
    """Build the node's programs and these images at the lowest priority for as long as the block takes.

    What is done then is kept. It uses the processors that the tiers before leave idle; whatever goes wrong is told by the tier
    that needs the node.
    """
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.cluster", "build", "--images", *images]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=nothing, stderr=nothing, start_new_session=True) as build:
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGTERM)


def say(words: str) -> None:
    print(words, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=", ".join(tier.name for tier in TIERS))
    parser.add_argument("--all", action="store_true", help="with the slow tests")
    arguments = parser.parse_args()
    wanted = arguments.tiers or [tier.name for tier in TIERS]
    # The node's other tests need no torch.
    images = ["operator", "numpy", "torch"] if arguments.all else ["operator", "numpy"]
    known = {tier.name: tier for tier in TIERS}
    if unknown := set(wanted) - set(known):
        parser.error(f"no such tier: {', '.join(sorted(unknown))}")
    outcomes: list[Outcome] = []
    comes_later = "e2e" in wanted and known["e2e"].missing() is None
    for stage in STAGES:
        comes_later = comes_later and "e2e" not in stage
        with node_built_meanwhile(images) if comes_later else nullcontext():
            outcomes += side_by_side([known[name] for name in stage if name in wanted], slow=arguments.all)
    say("\n=== tiers")
    for outcome in outcomes:
        say(f"{outcome.tier:12} {outcome.seconds:6.0f} s  {outcome.words}")
    return int(any(outcome.passed is False for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
