"""Two workers of the torch engine that train one model beside two that train one each, on digits.

    python -m bench.scaling

The workers are processes that run the engine's own steps and exchange gradients by gloo, without Ray around them, whose start
is not part of an epoch. At best two workers together take half as long as two that train a model each with the same cores.

How much of the cores workers have is measured, for it depends on other machines' load: the same loop takes a core 1.5 ms at
one moment and 2.8 ms at the next. Workers that do a step together wait for whichever core is slower in it, so that what they
have is what two have that train a model each and begin each update together, and say nothing to each other but that.
Two that train a model each and never wait are shown beside them.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

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


class Teams(NamedTuple):
    """So many trainings beside one another, each of so many workers; in step if all workers begin each update together."""

    number: int
    workers: int
    are_in_step: bool


APART, IN_STEP, TOGETHER = Teams(2, 1, False), Teams(2, 1, True), Teams(1, 2, True)


def measured(teams: Teams) -> float:
    """Seconds that the epochs of these trainings take, their mean."""
    with ExitStack() as opened:
        names = [opened.enter_context(tempfile.TemporaryDirectory(prefix="eagleray-bench-")) for _ in range(teams.number)]
        for name in names:
            (Path(name) / "config.json").write_text(configuration(Path(name), teams.workers).model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "bench.scaling"]
        group = f"{names[0]}/group" if teams.are_in_step else ""
        places = [(name, rank) for name in names for rank in range(teams.workers)]
        started = [
            subprocess.Popen([*command, name, str(rank), str(teams.workers), str(number), group])
            for number, (name, rank) in enumerate(places)
        ]
        for worker in started:
            if worker.wait(timeout=600):
                raise RuntimeError(f"a worker ended with {worker.returncode}")
        return statistics.fmean(float((Path(name) / "seconds").read_text()) for name in names)


def work(folder: Path, rank: int, workers: int, number: int, group: str) -> None:
    """Be a worker of a training, and the one with this number in the group of all that wait for one another."""
    import torch
    import torch.distributed

    from eagleray_runtime.training.torch_rows import received, sent
    from eagleray_runtime.training.torch_run import Run
    from eagleray_runtime.training.torch_step import epoch

    torch.set_num_threads(1)
    if group:
        torch.distributed.init_process_group("gloo", init_method=f"file://{group}", rank=number, world_size=2)
    config = TrainingConfig.model_validate_json((folder / "config.json").read_text())
    dataset = load(config)
    plan, _ = decide(config, dataset)
    run = Run(plan, torch.device("cpu"), rank, workers)
    rows = received(sent(dataset.training, plan.precision), run.device)

    def meet(*_: object) -> None:
        if group:
            torch.distributed.all_reduce(torch.zeros(1))

    if workers == 1:
        run.optimizer.register_step_pre_hook(meet)
    epoch(run, rows)
    run.course.epoch += 1
    meet()
    began = time.perf_counter()
    while not run.course.is_over:
        epoch(run, rows)
        run.course.epoch += 1
    meet()
    if rank == 0:
        (folder / "seconds").write_text(str(time.perf_counter() - began))
    if group:
        torch.distributed.destroy_process_group()


def show() -> bool:
    """Print the comparison; whether two workers are worth enough."""
    rounds = [(measured(APART), measured(IN_STEP), measured(TOGETHER)) for _ in range(ROUNDS)]
    apart, in_step, together = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    scaling = statistics.median(one / both for _, one, both in rounds)
    each = ", ".join(f"{one / both:.2f}" for _, one, both in rounds)
    print(
        f"digits, convolutional network, torch: two workers train one model in {together:.2f} s, and two in {in_step:.2f} s, "
        f"begun together at each step: together {scaling:.2f} times as fast as one (each time: {each}). "
        f"Never waiting, they train two in {apart:.2f} s: {statistics.median(free / both for free, _, both in rounds):.2f} times",
        flush=True,
    )
    return scaling >= LEAST_SCALING


if __name__ == "__main__":
    if len(sys.argv) == 6:
        work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
        sys.exit(0)
    sys.exit(0 if show() else 1)
