"""Training in torch on Ray Train: any number of workers, which may change while it runs.

Every step's batch is dealt over the workers there are, and gradients are those of the whole batch, so that the number of
workers changes how long training takes and not (but for rounding) what comes out.
"""

import os
import shutil
import time
from typing import Any

import ray
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from eagleray_runtime.contract.blocks import Compilation
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, HistoryPoint
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.storage import Store
from eagleray_runtime.training.outcome import EpochEnd, FirstEpoch, Outcome
from eagleray_runtime.training.plan import Plan
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.torch_failures import final, of_training
from eagleray_runtime.training.torch_rows import sent

RAY_TRAIN = {
    # Seconds between its looks at the workers, in which it takes a report of each and finds that they have ended.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A process of its own, which tells workers that a node will be drained; ours do not ask.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""What it is told by the environment, where nobody has said otherwise."""

RESIZE_SECONDS = 10.0
"""How often Ray Train looks whether more workers could be had; each change goes back to the last checkpoint."""

MOST_FAILURES = 3
"""Failures of workers (not preemptions, which cost nothing) before the attempt ends."""


class RunCallback(UserCallback):  # type: ignore[misc]
    """In the process of Ray Train's controller, which sees every worker: reports on, and ends what would only fail again."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._chosen = progress.chosen
        self._before: dict[str, Any] | None = None
        # By the epoch of each checkpoint that is in the store, when it was taken.
        self._saved: dict[int, float] = {}
        self._trained_until = 0.0

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Tell the first worker's losses and choices, which are those of all, and what it cost if workers were started anew."""
        told, now = metrics[0], time.time()
        if (before := self._before) is not None and told["began"] != before["began"]:
            kept_until = max(before["began"], self._saved.get(told["resumed_from"], 0.0))
            lost, recovery = self._trained_until - kept_until, told["began"] - self._trained_until
            self._progress.waited(before["checkpoint_seconds"], lost, recovery)
        if checkpoint is not None:
            self._saved[told["epoch"]] = told["saved_at"]
        self._before, self._trained_until = told, now
        self._progress.chosen = [*self._chosen, *map(Choice.model_validate, told["chosen"])]
        self._progress.epoch(
            EpochEnd(
                epoch=told["epoch"],
                step=told["step"],
                training=told["training"],
                validation=told["validation"],
                workers=len(metrics),
                resumed_from=told["resumed_from"],
                history=[HistoryPoint.model_validate(point) for point in told["history"]],
                checkpoint_seconds=told["checkpoint_seconds"],
                unsaved_seconds=max(0.0, now - told["saved_at"]),
                first_epoch=FirstEpoch(*told["first_epoch"]) if told["first_epoch"] else None,
            )
        )

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """End the run at once where no further try could help: Ray Train tries again whatever ended a worker, but no callback."""
        if (failure := final(worker_exceptions.values())) is not None:
            raise failure
        self._trained_until = time.time()


def train(config: TrainingConfig, plan: Plan, dataset: Dataset, progress: Progress) -> Outcome:
    """Train to the end on the workers of the configuration, from the last checkpoint if there is one.

    Raises:
        ModelInvalid: the network is to be compiled, and there is no compiler, or the early end looks at what is not defined.
        Diverged: a loss is not finite any more.
        OutOfMemory, WorkerLost: workers got no memory, or were lost more often than they are replaced.
        RuntimeFailure: a worker ended with it.
        TrainingFailedError: anything else that ended Ray Train.
    """
    require_compiler(plan)
    if not ray.is_initialized():
        ray.init(log_to_driver=True)
    for name, value in RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    store = Store(config.checkpoints)
    store.make_folder()
    workers = config.workers
    elastic = workers.max > workers.min
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "plan": plan.model_dump(mode="json"),
            "asked_at": time.time(),
            "start": ray.put(dict(dataset.start.parameters)) if dataset.start else None,
            "target": dataset.preparation.target.model_dump(mode="json"),
            "parts": ray.put([sent(part, plan.precision) for part in (dataset.training, dataset.validation)]),
        },
        # Always gloo: workers that were promised a GPU may find none; they make a group for NCCL themselves.
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=(workers.min, workers.max) if elastic else workers.min,
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus else {}),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            # The same for every attempt: Ray Train goes on from the newest checkpoint of this name.
            name=config.resource.uid,
            storage_path=store.path,
            storage_filesystem=store.arrow(),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=plan.checkpoint.keep),
            callbacks=[RunCallback(progress)],
        ),
    )
    try:
        told: dict[str, Any] = trainer.fit().return_value
    except TrainingFailedError as error:
        if (failure := of_training(error, MOST_FAILURES)) is not None:
            raise failure from error
        raise
    chosen = [Choice.model_validate(choice) for choice in told["chosen"]]
    if workers.gpus and told["device"] == "cpu":
        chosen.append(Choice(field="training.device", value="cpu", reason="the workers have a GPU resource, but CUDA finds none"))
    return Outcome(
        parameters=told["parameters"],
        history=[HistoryPoint.model_validate(point) for point in told["history"]],
        epochs=told["epoch"],
        steps=told["step"],
        workers=told["workers"],
        resumed_from=told["resumed_from"],
        chosen=chosen,
        checkpoint_seconds=told["checkpoint_seconds"],
        first_epoch=FirstEpoch(*told["first_epoch"]) if told["first_epoch"] else None,
    )


def require_compiler(plan: Plan) -> None:
    """Refuse to compile where there is nothing to do it with.

    Raises:
        ModelInvalid: torch's compiler finds no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if plan.compile is Compilation.DEFAULT and shutil.which(compiler) is None:
        raise ModelInvalid(
            f"training.compile needs a C++ compiler, and the image holds no {compiler}: set runtime.image to one that does, "
            "or drop it"
        )


def _worker(told: dict[str, Any]) -> dict[str, Any]:
    """What each worker runs; the first one's answer is the run's."""
    # Only here: neither this process nor Ray Train's controller takes a step, and what a step needs takes seconds to import.
    from eagleray_runtime.training import torch_worker

    return torch_worker.train(told)
