"""Two workers of the torch engine that train one model beside two that train one each, on digits.

    python -m bench.scaling

The workers are processes that run the engine's own steps and exchange gradients by gloo, without Ray around them, whose start
is not part of an epoch. Two cores do not do twice the work of one where they share caches and other machines' load: what they can
do is measured by two workers that have nothing to do with each other. At best two workers together take half as long as these.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from sklearn import datasets

from bench.jobs import job, pictures
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.loading import load
from eagleray_runtime.training.plan import decide

EPOCHS = 20
"""Each of them is timed but the first, in which torch chooses its kernels."""

ROUNDS = 9

LEAST_SCALING = 1.7


def configuration(folder: Path, workers: int) -> TrainingConfig:
    """A convolutional network of the default shape but for statistics over the workers' rows, in steps of 1,024 digits."""
    found = datasets.load_digits()
    return job(
        folder,
        **pictures(folder, found.images, found.target),
        model={"family": "ConvolutionalNetwork", "convolutionalNetwork": {"normalization": "Layer"}},
        training={"epochs": EPOCHS, "batchSize": 1024},
        workers={"min": workers, "max": workers, "cpus": 1, "gpus": 0},
        engine="Torch",
    )


def measured(teams: int, workers: int) -> float:
    """Seconds that the epochs of so many trainings beside one another take, each of so many workers; their mean."""
    with ExitStack() as opened:
        names = [opened.enter_context(tempfile.TemporaryDirectory(prefix="eagleray-bench-")) for _ in range(teams)]
        for name in names:
            (Path(name) / "config.json").write_text(configuration(Path(name), workers).model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "bench.scaling"]
        started = [subprocess.Popen([*command, str(rank), str(workers), name]) for name in names for rank in range(workers)]
        for worker in started:
            if worker.wait(timeout=600):
                raise RuntimeError(f"a worker ended with {worker.returncode}")
        return statistics.fmean(float((Path(name) / "seconds").read_text()) for name in names)


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
    began = time.perf_counter()
    while not run.course.is_over:
        epoch(run, rows)
        run.course.epoch += 1
    over_workers(run, [0.0])
    if rank == 0:
        (folder / "seconds").write_text(str(time.perf_counter() - began))
    if workers > 1:
        torch.distributed.destroy_process_group()


def show() -> bool:
    """Print the comparison; whether two workers are worth enough."""
    rounds = [(measured(2, 1), measured(1, 2)) for _ in range(ROUNDS)]
    apart, together = (statistics.fmean(seconds) for seconds in zip(*rounds, strict=True))
    scaling = apart / together
    each = ", ".join(f"{first / second:.2f}" for first, second in rounds)
    print(
        f"digits, convolutional network, torch: two workers train two models in {apart:.2f} s and one in {together:.2f} s: "
        f"together {scaling:.2f} times as fast as one with the same cores (each time: {each})",
        flush=True,
    )
    return scaling >= LEAST_SCALING


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
        sys.exit(0)
    sys.exit(0 if show() else 1)
