"""Training by the torch engine without Ray: in the test's own process, or in one process for each of two workers.

As a program it is one of two workers: `python -m tests.support.torch_runs RANK` takes folders by its input, a line each. It runs
every `*.json` of a folder (a list: the configuration, epochs or null, the folder of a checkpoint to go on from or null), leaves
what came out as `*.RANK.npz`, and the checkpoint in the folder `*.checkpoint`, and answers with an empty line.
"""

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.writing import write_bundle
from eagleray_runtime.contract.blocks import Loading
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV
from eagleray_runtime.data import survey
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import clean, prepare, read_rows
from eagleray_runtime.models.architecture import Pretrained
from eagleray_runtime.models.predictor import evaluating
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.code import read_code
from eagleray_runtime.training.evaluation import evaluate
from eagleray_runtime.training.outcome import Outcome
from eagleray_runtime.training.plan import Plan, decide
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.starting import read_start


def _dataset(config: TrainingConfig) -> Dataset:
    if config.data.loading is Loading.STREAM:
        return survey.load(config, read_code(config))
    cleaned = clean(config, replace(read_rows(config), start=read_start(config), code=read_code(config)))
    return prepare(config, cleaned, cleaned.parts)


class HereRun:
    """A run of one worker, the only one if nothing else is said, on the processor or the GPU."""

    def __init__(self, config: TrainingConfig, rank: int = 0, world: int = 1, device: str = "cpu") -> None:
        import torch

        from eagleray_runtime.training.torch_rows import received, sent
        from eagleray_runtime.training.torch_run import Run

        self.config = config
        self.dataset = _dataset(config)
        self.plan: Plan = decide(config, self.dataset)[0]
        start = self.dataset.start.parameters if self.dataset.start else None
        self.run = Run(self.plan, torch.device(device), rank, world, start=start)
        self.training, self.validation = (
            received(sent(part, self.plan.precision), self.run.device)
            for part in (self.dataset.training, self.dataset.validation)
        )

    def to_the_end(self, epochs: int | None = None) -> "HereRun":
        """Train until it is over, or until so many epochs are finished."""
        from eagleray_runtime.training.torch_step import epoch, held_out, over_workers

        while not self.run.course.is_over and self.run.course.epoch != epochs:
            shares = [epoch(self.run, self.training), *held_out(self.run, self.validation, self.dataset.preparation.target)]
            total, held, metric = over_workers(self.run, shares)
            loss = total / self.training.amount(self.plan.loss) * self.plan.unit
            if self.run.course.end_epoch(loss, held / max(1, self.validation.amount(self.plan.loss)) * self.plan.unit, metric):
                self.run.keep_best()
        return self

    def save(self) -> None:
        """Write the bundle, as the driver does when training has ended."""
        course = self.run.course
        outcome = Outcome(self.state, course.history.points, course.epoch, course.step, 1, 0, course.chosen)
        draft = driver._draft(self.config, self.plan, self.dataset, outcome, [], Progress(self.config, Reporter(None)))
        write_bundle(Store(self.config.output), draft, outcome.parameters, tokenizer=self.dataset.tokenizer)

    @property
    def state(self) -> dict[str, AnyArray]:
        """Parameters and buffers by name, as NumPy arrays."""
        # A pretrained model that is whole is of no use for training any more.
        network = self.run.network
        if isinstance(self.plan.architecture, Pretrained):
            self.run.network = copy.deepcopy(network)
        try:
            return {name: values.cpu().numpy().copy() for name, values in self.run.finished().items()}
        finally:
            self.run.network = network

    @property
    def losses(self) -> list[float]:
        """Training and validation losses of all epochs."""
        points = self.run.course.history.points
        return [point.training for point in points] + [float(point.validation or 0) for point in points]

    def metrics(self) -> dict[tuple[str, str], float]:
        """Metrics of the model by name and part."""
        predict = evaluating(self.plan.architecture, self.state)
        found = evaluate(predict, self.plan.architecture.head, self.dataset, self.plan.metrics, 95, 0)
        return {(metric.name, metric.part): metric.value for metric in found}


def changed_alike_when_interrupted(config: TrainingConfig, folder: Path) -> tuple[set[str], set[str]]:
    """Hold that a run which is interrupted after two epochs ends with the weights and buffers of an undisturbed one.

    Returns the names of those that training changed, and of all. The checkpoint goes into the folder.
    """
    whole, interrupted, resumed = (HereRun(config) for _ in range(3))
    interrupted.to_the_end(2).run.save(folder)
    resumed.run.restore(folder)
    assert resumed.run.course.epoch == 2
    whole.to_the_end()
    resumed.to_the_end()
    start, state = HereRun(config).state, whole.state
    assert set(state) == set(whole.plan.architecture.shapes | whole.plan.architecture.buffers)
    for name, values in state.items():
        assert np.array_equal(values, resumed.state[name]), name
    return {name for name, values in state.items() if not np.array_equal(values, start[name])}, set(state)


@dataclass(frozen=True)
class Came:
    """What a run of two workers came to: its losses, the model, and how many parameters the first worker itself held."""

    losses: list[float]
    state: dict[str, AnyArray]
    held: int
    checkpoint: Path


@dataclass(frozen=True)
class Wanted:
    """A run of two workers, to its end or for so many epochs, from the checkpoint in a folder if there is one."""

    config: TrainingConfig
    epochs: int | None = None
    checkpoint: Path | None = None


class TwoWorkers:
    """Two processes that train together, one run after the other; to start them takes longer than most runs."""

    def __init__(self, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "tests.support.torch_runs"]
        environment = os.environ | {ALLOW_FILE_URIS_ENV: "1"}
        with log.open("w") as errors:
            self._processes = [
                subprocess.Popen(
                    [*command, rank], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
                )
                for rank in ("0", "1")
            ]

    def run(self, folder: Path, runs: dict[str, Wanted]) -> dict[str, Came]:
        """Run each; the folder, which is made, keeps what they leave."""
        folder.mkdir()
        for name, run in runs.items():
            told = [
                run.config.model_dump(mode="json", by_alias=True),
                run.epochs,
                str(run.checkpoint) if run.checkpoint else None,
            ]
            (folder / f"{name}.json").write_text(json.dumps(told))
        for process in self._processes:
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
        for process in self._processes:
            # One that fails ends, and the other as gloo sees it gone.
            assert process.stdout.readline() == "\n", self._log.read_text()[-6000:]
        return {name: _came(folder, name) for name in runs}

    def close(self) -> None:
        """End both processes."""
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            process.wait(60)
            process.stdout.close()


def _came(folder: Path, name: str) -> Came:
    one, other = (np.load(folder / f"{name}.{rank}.npz") for rank in (0, 1))
    state = {key.removeprefix("state."): one[key] for key in one.files if key.startswith("state.")}
    for key in one.files:
        assert key == "held" or np.array_equal(one[key], other[key]), f"{name}: the workers differ in {key}"
    return Came(list(one["losses"]), state, int(one["held"]), folder / f"{name}.checkpoint")


def _work(rank: int, folder: Path) -> None:
    import torch.distributed
    from torch.distributed.tensor import DTensor

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    for path in sorted(folder.glob("*.json")):
        config, epochs, checkpoint = json.loads(path.read_text())
        here = HereRun(TrainingConfig.model_validate(config), rank, 2)
        if checkpoint:
            here.run.restore(Path(checkpoint))
        here.to_the_end(epochs)
        tensors = here.run.tensors()
        if rank == 0:
            (place := path.with_suffix(".checkpoint")).mkdir()
            here.run.save(place, tensors)
        held = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in here.run.network.parameters())
        found: dict[str, Any] = {f"state.{name}": values for name, values in here.state.items()}
        np.savez(path.with_suffix(f".{rank}.npz"), **found, losses=here.losses, held=held)
    torch.distributed.destroy_process_group()


def _main(rank: int) -> None:
    # What others print must not be taken for an answer.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            _work(rank, Path(line.rstrip("\n")))
            print(file=answers, flush=True)
    # Not by the interpreter's end, in which gloo's threads may abort the process (seen once; pytorch/pytorch#190489).
    os._exit(0)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
