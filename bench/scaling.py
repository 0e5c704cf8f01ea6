"""Two workers of the torch engine beside one, on digits: how much faster, for the cores that they could have.

    python -m bench.scaling

The workers are processes that run the engine's own steps and exchange gradients by gloo, without Ray around them, whose start
is not part of an epoch. On a machine that does other work too, two workers do not get two cores: what they could have is told by
the kernel, as all cores' seconds less those that other processes took.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn import datasets

from bench.jobs import job, pictures
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.dataset import load
from eagleray_runtime.training.plan import decide

EPOCHS = 10
"""Each of them is timed but the first, in which torch chooses its kernels."""

LEAST_SCALING = 1.7


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock, of the workers' processors and of all cores' work on whatever it was."""

    wall: float
    own: float
    all: float

    def available(self, workers: int, cores: int) -> float:
        """Core-seconds that so many workers could have had."""
        return min(workers * self.wall, cores * self.wall - max(0.0, self.all - self.own))


def configuration(folder: Path, workers: int) -> TrainingConfig:
    """A convolutional network of the default shape but for statistics over the workers' rows, in steps of 512 digits."""
    found = datasets.load_digits()
    return job(
        folder,
        **pictures(folder, found.images, found.target),
        model={"family": "ConvolutionalNetwork", "convolutionalNetwork": {"normalization": "Layer"}},
        training={"epochs": EPOCHS, "batchSize": 512},
        workers={"min": workers, "max": workers, "cpus": 1, "gpus": 0},
        engine="Torch",
    )


def measured(workers: int) -> Spent:
    """What the epochs of so many workers take, as the first of them tells it."""
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(configuration(folder, workers).model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "bench.scaling"]
        started = [subprocess.Popen([*command, str(rank), str(workers), name]) for rank in range(workers)]
        for worker in started:
            if worker.wait(timeout=600):
                raise RuntimeError(f"a worker ended with {worker.returncode}")
        told: list[dict[str, Any]] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(workers)]
    return Spent(told[0]["wall"], sum(each["own"] for each in told), told[0]["all"])


def work(rank: int, workers: int, folder: Path) -> None:
    """Be one of the workers."""
    import torch
    import torch.distributed

    from eagleray_runtime.training.torch_rows import received, sent
    from eagleray_runtime.training.torch_run import Run
    from eagleray_runtime.training.torch_step import epoch, over_workers

    torch.set_num_threads(1)
    if workers > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=workers)
    config = TrainingConfig.model_validate_json((folder / "config.json").read_text())
    dataset = load(config)
    plan, _ = decide(config, dataset)
    run = Run(plan, torch.device("cpu"), rank, workers)
    rows = received(sent(dataset.training, plan.precision), run.device)
    epoch(run, rows)
    run.course.epoch += 1
    over_workers(run, [0.0])
    before = (time.perf_counter(), time.process_time(), busy_seconds())
    while not run.course.is_over:
        epoch(run, rows)
        run.course.epoch += 1
    over_workers(run, [0.0])
    after = (time.perf_counter(), time.process_time(), busy_seconds())
    wall, own, of_all = (second - first for first, second in zip(before, after, strict=True))
    (folder / f"{rank}.json").write_text(json.dumps({"wall": wall, "own": own, "all": of_all}))
    if workers > 1:
        torch.distributed.destroy_process_group()


def busy_seconds() -> float:
    """Seconds that all cores have worked since the machine was started (Linux, proc(5))."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def show() -> bool:
    """Print the comparison; whether two workers are worth enough."""
    cores = len(os.sched_getaffinity(0))
    one, two = measured(1), measured(2)
    of_one, of_two = one.available(1, cores), two.available(2, cores)
    scaling = 2 * of_one / of_two
    alone, together = (
        f"{spent.wall:.2f} s ({of:.2f} core-seconds available, {spent.own:.2f} used)"
        for spent, of in ((one, of_one), (two, of_two))
    )
    faster = f"{one.wall / two.wall:.2f} times as fast, {scaling:.2f} times for the cores there were"
    print(f"digits, convolutional network, torch: 1 worker {alone}, 2 workers {together}: {faster}", flush=True)
    return scaling >= LEAST_SCALING


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
        sys.exit(0)
    sys.exit(0 if show() else 1)
