"""Steps of the torch engine beside the plainest loop of the same steps: on the processor, and on a GPU if there is one.

    python -m bench.steps

On the processor the seconds are its own; on a GPU those of the clock, until it has done all it was asked for.
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets

from bench.jobs import job, pictures
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.loading import load
from eagleray_runtime.models.torch_network import torch_network
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.torch_rows import received, sent
from eagleray_runtime.training.torch_run import HALVES, Run
from eagleray_runtime.training.torch_step import epoch

MOST = 1.03
"""Times the bare loop's, of a step."""

PAIRS = 41
"""Epochs of each, of which the first is left out: torch chooses its kernels there."""


@dataclass(frozen=True)
class Contest:
    """A model that learns pictures of classes (N, height, width, channels) in steps of so many rows."""

    images: Callable[[], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    model: dict[str, Any]
    device: str
    batch: int
    precision: str = "Float32"


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    found = datasets.load_digits()
    return found.images[..., np.newaxis], found.target


def noise() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of the size that CIFAR-10 has; what they show does not change how long a step takes."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(10_000, 32, 32, 3)), draw.integers(10, size=10_000)


SMALL = {"family": "ConvolutionalNetwork", "convolutionalNetwork": {"channels": [16, 32], "hiddenLayers": [64]}}
LARGE = {"family": "ConvolutionalNetwork", "convolutionalNetwork": {"channels": [64, 128, 256], "hiddenLayers": [256]}}

CONTESTS = {
    "digits on a core": Contest(digits, SMALL, "cpu", 128),
    "32x32 pictures on a GPU, Float32": Contest(noise, LARGE, "cuda", 250),
    "32x32 pictures on a GPU, BFloat16": Contest(noise, LARGE, "cuda", 250, "BFloat16"),
}


def configuration(folder: Path, contest: Contest) -> TrainingConfig:
    """A job on the pictures, all of them for training."""
    return job(
        folder,
        **pictures(folder, *contest.images()),
        model=contest.model,
        training={
            "epochs": 10_000,
            "batchSize": contest.batch,
            "optimizer": {"type": "Adam"},
            "precision": contest.precision,
        },
        workers={"min": 1, "max": 1, "cpus": 1, "gpus": int(contest.device != "cpu")},
        engine="Torch",
    )


def show(name: str, contest: Contest, folder: Path) -> bool:
    """Whether a step of the engine takes at most `MOST` times what the bare loop's takes."""
    config = configuration(folder, contest)
    dataset = load(config)
    plan, _ = decide(config, dataset)
    device = torch.device(contest.device)
    sent_rows = sent(dataset.training, plan.precision)
    run, rows = Run(plan, device, 0, 1), received(sent_rows, device)
    assert isinstance(sent_rows, tuple)
    x, y = (torch.from_numpy(values).to(device) for values in sent_rows)
    network = torch_network(plan.architecture).to(device)
    optimizer = torch.optim.Adam(network.parameters(), plan.optimizer.learning_rate)
    half = HALVES.get(plan.precision)

    def engine() -> None:
        epoch(run, rows)
        run.course.epoch += 1

    def bare() -> None:
        order, total = torch.randperm(len(y), device=device), torch.zeros((), device=device)
        for batch in order.split(plan.batch_rows):
            optimizer.zero_grad()
            with torch.autocast(device.type, half, enabled=half is not None):
                loss = torch.nn.functional.cross_entropy(network(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        float(total)

    clock = time.process_time if contest.device == "cpu" else time.perf_counter
    pairs = [(seconds(engine, clock), seconds(bare, clock)) for _ in range(PAIRS)][1:]
    ratio = statistics.median(mine / other for mine, other in pairs)
    steps = math.ceil(len(y) / plan.batch_rows)
    mine, other = (min(times) / steps * 1e6 for times in zip(*pairs, strict=True))
    words = f"{mine:.0f} us a step of {plan.batch_rows}, the bare loop {other:.0f} us: {ratio:.3f} times (median of pairs)"
    print(f"{name}, torch: {words}", flush=True)
    return ratio <= MOST


def seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began


def main() -> int:
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        print("CUDA finds no GPU here: only the processor's steps are timed", flush=True)
    good = True
    for name, contest in CONTESTS.items():
        if contest.device == "cpu" or torch.cuda.is_available():
            with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
                good = show(name, contest, Path(folder)) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
