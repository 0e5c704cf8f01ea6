"""Two workers of the torch engine that train one model beside two that train one each, on digits.

    python -m bench.scaling

The workers are processes that run the engine's own steps and exchange gradients by gloo, without Ray around them, whose start
is not part of an epoch. Two cores do not do twice the work of one where they share caches and other machines' load: what they can
do is measured by the same two workers, each with a model of its own, in epochs that take turns with those they train together,
so that whatever changes the speed of a core changes both. At best two workers together take half as long as these.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sklearn import datasets

from bench.jobs import job, pictures
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.loading import load
from eagleray_runtime.training.allocator import keep_freed_memory
from eagleray_runtime.training.plan import decide

WORKERS = 2

ROUNDS, TURNS = 9, 20
"""The ratio is told of each round, which has so many epochs of both sorts."""

LEAST_SCALING = 1.7


def configuration(folder: Path) -> TrainingConfig:
    """A convolutional network of the default shape but for statistics over the workers' rows; a step takes all digits."""
    found = datasets.load_digits()
    return job(
        folder,
        **pictures(folder, found.images, found.target),
        model={"family": "ConvolutionalNetwork", "convolutionalNetwork": {"normalization": "Layer"}},
        training={"epochs": ROUNDS * TURNS + 1, "batchSize": len(found.target)},
        workers={"min": WORKERS, "max": WORKERS, "cpus": 1, "gpus": 0},
        engine="Torch",
    )


def work(rank: int, folder: Path) -> list[tuple[float, float]]:
    """Be one of the workers: seconds of an epoch apart and together, both workers' mean, by round."""
    import torch
    import torch.distributed

    from eagleray_runtime.training.torch_rows import received, sent
    from eagleray_runtime.training.torch_run import Run
    from eagleray_runtime.training.torch_step import epoch, over_workers

    keep_freed_memory()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=WORKERS)
    own = folder / str(rank)
    own.mkdir()
    config = configuration(own)
    dataset = load(config)
    plan, _ = decide(config, dataset)
    device = torch.device("cpu")
    rows = received(sent(dataset.training, plan.precision), device)
    alone, shared = Run(plan, device, rank=0, world=1), Run(plan, device, rank, WORKERS)

    def seconds(run: Run) -> float:
        torch.distributed.barrier()
        began = time.perf_counter()
        epoch(run, rows)
        run.course.epoch += 1
        return time.perf_counter() - began

    found = []
    for turns in (1, *[TURNS] * ROUNDS):
        times = [(seconds(alone), seconds(shared)) for _ in range(turns)]
        apart, together = over_workers(shared, [statistics.fmean(column) for column in zip(*times, strict=True)])
        found.append((apart / WORKERS, together / WORKERS))
    torch.distributed.destroy_process_group()
    # In the first epoch torch chooses its kernels.
    return found[1:]


def show() -> bool:
    """Print the comparison; whether two workers are worth enough."""
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        command = [sys.executable, "-m", "bench.scaling"]
        started = [subprocess.Popen([*command, str(rank), folder], stdout=subprocess.PIPE) for rank in range(WORKERS)]
        answers = [worker.communicate(timeout=900)[0] for worker in started]
    if any(worker.returncode for worker in started):
        raise RuntimeError(f"workers ended with {[worker.returncode for worker in started]}")
    rounds = json.loads(answers[0])
    apart, together = (statistics.fmean(column) for column in zip(*rounds, strict=True))
    each = ", ".join(f"{first / second:.2f}" for first, second in rounds)
    print(
        f"digits, convolutional network, torch: an epoch takes each of two workers {apart * 1e3:.0f} ms when both train a model "
        f"of their own, and {together * 1e3:.0f} ms when they train one: {apart / together:.2f} times as fast "
        f"(by round: {each})",
        flush=True,
    )
    return apart / together >= LEAST_SCALING


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(work(int(sys.argv[1]), Path(sys.argv[2]))))
        sys.exit(0)
    sys.exit(0 if show() else 1)
