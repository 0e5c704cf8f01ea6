"""Training in torch on Ray Train: any number of workers, which may change while it runs.

Every step's batch is dealt over the workers there are, and gradients are those of the whole batch, so that the number of
workers changes how long training takes and not (but for rounding) what comes out.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from eagleray_runtime.contract.blocks import Augmentation, OptimizerType
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, HistoryPoint
from eagleray_runtime.data.dataset import Dataset, Part
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.errors import Diverged, WorkerLost
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.torch_batch import BatchNormalization
from eagleray_runtime.models.torch_losses import total_loss
from eagleray_runtime.models.torch_network import torch_network
from eagleray_runtime.storage import Store
from eagleray_runtime.training import metrics
from eagleray_runtime.training.augmentation import Light
from eagleray_runtime.training.course import Course
from eagleray_runtime.training.optimizers import RMS_DECAY, Rule
from eagleray_runtime.training.order import dropout_stream, row_order
from eagleray_runtime.training.outcome import EpochEnd, Outcome
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.plan import Plan
from eagleray_runtime.training.progress import Progress

REPORT_SECONDS = 5.0
"""At most so often, counted from the end of the last report: Ray Train takes one report every two seconds, and `report` waits
for the one before it to be taken."""

RESIZE_SECONDS = 10.0
"""How often Ray Train looks whether more workers could be had; each change goes back to the last checkpoint."""

MOST_FAILURES = 3
"""Failures of workers (not preemptions, which cost nothing) before the attempt ends."""

TENSORS, TOLD = "state.safetensors", "state.json"


class TellProgress(UserCallback):  # type: ignore[misc]
    """Reports from the process of Ray Train's controller, which sees every worker's report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Tell the first worker's losses, which are those of all."""
        told = metrics[0]
        self._progress.epoch(
            EpochEnd(
                epoch=told["epoch"],
                step=told["step"],
                training=told["training"],
                validation=told["validation"],
                workers=len(metrics),
                resumed_from=told["resumed_from"],
                history=[HistoryPoint.model_validate(point) for point in told["history"]],
            )
        )


def train(config: TrainingConfig, plan: Plan, dataset: Dataset, progress: Progress) -> Outcome:
    """Train to the end on the workers of the configuration, from the last checkpoint if there is one.

    Raises:
        Diverged: the loss is not finite any more.
        WorkerLost: workers were lost more often than they are replaced.
        TrainingFailedError: anything else that ended Ray Train.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=True)
    store = Store(config.checkpoints)
    store.make_folder()
    workers = config.workers
    elastic = workers.max > workers.min
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "plan": plan.model_dump(mode="json"),
            "target": dataset.preparation.target.model_dump(mode="json"),
            "parts": ray.put((_arrays(dataset.training), _arrays(dataset.validation))),
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
            callbacks=[TellProgress(progress)],
        ),
    )
    try:
        told: dict[str, Any] = trainer.fit().return_value
    except TrainingFailedError as error:
        if (lost := _lost(error)) is not None:
            raise WorkerLost(
                f"{lost}: this happened more than {MOST_FAILURES} times: look at the workers' logs, "
                "give them more memory or fewer rows a batch"
            ) from error
        raise
    if told["diverged"]:
        raise Diverged(
            f"the loss became {told['training']} in epoch {told['epoch']}: set training.optimizer.learningRate below "
            f"{plan.optimizer.learning_rate}, or data.preparation.scaling to Standard if it is None"
        )
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
    )


def _lost(error: TrainingFailedError) -> str | None:
    """What Ray says of a lost worker; None if the error is one of our own code."""
    if isinstance(error, PreemptionError):
        return str(error)
    if isinstance(error, WorkerGroupError):
        for failure in error.worker_failures.values():
            if isinstance(failure, ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError):
                return f"a worker was lost: {str(failure).splitlines()[0]}"
    if isinstance(error, ControllerError) and isinstance(error.controller_failure, ray.exceptions.RayActorError):
        return f"the controller was lost: {error.controller_failure}"
    return None


def _arrays(part: Part) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return part.x.astype(np.float32, copy=False), part.y if part.y.dtype == np.int64 else part.y.astype(np.float32)


class Run:
    """State of one worker: what a checkpoint holds and the next epoch depends on.

    `best` are parameters and buffers of the best epoch so far by name, where the plan looks for one.
    """

    def __init__(self, plan: Plan, device: torch.device, rank: int, world: int) -> None:
        self.plan, self.rank, self.world = plan, rank, world
        self.network = torch_network(plan.architecture)
        self.network.set_parameters(initial_parameters(plan.architecture, plan.initialization, plan.seed))
        self.network.to(device)
        self.optimizer = make_optimizer(plan.optimizer, self.network)
        self.course = Course(plan)
        self.best: dict[str, torch.Tensor] = {}

    def save(self, folder: Path) -> None:
        """Write the state as safetensors and JSON."""
        tensors = {f"parameters.{name}": values for name, values in self.network.state_dict().items()}
        tensors |= {f"best.{name}": values for name, values in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        save_file({name: values.detach().cpu().contiguous() for name, values in tensors.items()}, folder / TENSORS)
        (folder / TOLD).write_text(json.dumps(self.course.told()), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Go on from a saved state, unless it is one of another plan."""
        course = Course.restored(self.plan, json.loads((folder / TOLD).read_text(encoding="utf-8")))
        if course is None:
            return
        self.course = course
        saved: dict[str, dict[str, torch.Tensor]] = {"parameters": {}, "best": {}, "optimizer": {}}
        for name, value in load_file(folder / TENSORS).items():
            kind, _, rest = name.partition(".")
            saved[kind][rest] = value
        self.network.load_state_dict(saved["parameters"])
        self.best = saved["best"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in saved["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def keep_best(self) -> None:
        """Keep the parameters as those of the best epoch."""
        self.best = {name: values.detach().clone() for name, values in self.network.state_dict().items()}

    def told_history(self) -> list[dict[str, Any]]:
        """The history as JSON values."""
        return [point.model_dump(mode="json") for point in self.course.history.points]


def make_optimizer(rule: Rule, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The torch optimiser of a rule."""
    parameters, rate, decay = network.parameters(), rule.learning_rate, rule.weight_decay
    betas = (rule.beta1, rule.beta2)
    match rule.type:
        case OptimizerType.ADAM:
            return torch.optim.Adam(parameters, rate, betas, rule.epsilon, decay)
        case OptimizerType.ADAM_W:
            return torch.optim.AdamW(parameters, rate, betas, rule.epsilon, decay)
        case OptimizerType.RMS_PROP:
            return torch.optim.RMSprop(parameters, rate, RMS_DECAY, rule.epsilon, decay, rule.momentum)
        case OptimizerType.ADAGRAD:
            return torch.optim.Adagrad(parameters, rate, weight_decay=decay, eps=rule.epsilon)
        case _:
            return torch.optim.SGD(parameters, rate, rule.momentum, weight_decay=decay, nesterov=rule.nesterov)


def _worker(told: dict[str, Any]) -> dict[str, Any]:
    """What each worker runs; the first one's answer is the run's."""
    plan = Plan.model_validate(told["plan"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # A node may promise a GPU that CUDA does not find; Ray names the device by the promise.
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    training, validation = (
        (torch.from_numpy(x.copy()).to(device), torch.from_numpy(y.copy()).to(device)) for x, y in ray.get(told["parts"])
    )
    run = Run(plan, device, rank, world)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            run.restore(Path(folder))
    course, resumed_from = run.course, run.course.epoch
    group = torch.distributed.new_group(backend="nccl") if device.type == "cuda" and world > 1 else None
    if world > 1:
        for module in run.network.modules():
            if isinstance(module, BatchNormalization):
                module.share(group)
    model = ray.train.torch.prepare_model(
        run.network,
        move_to_device=device,
        parallel_strategy_kwargs={"process_group": group} if group else None,
    )
    # The first epoch is told at once, for it shows how many workers there are now.
    reported_at, saved_at = float("-inf"), time.monotonic()
    loss, valid, diverged = float("nan"), None, False
    target = Affine.model_validate(told["target"])
    while not course.is_over and not diverged:
        total = _epoch(run, model, training)
        held, metric = _held_out(run, validation, target)
        now = time.monotonic()
        wishes = [now - reported_at >= REPORT_SECONDS, plan.is_checkpoint(course.epoch + 1, now - saved_at)]
        # One reduction an epoch: the losses, and what only the first worker knows: the metric, and its wish to report.
        shared = [total, held, metric, *(float(wish and rank == 0) for wish in wishes)]
        total, held, metric, report, save = _over_workers(run, shared)
        loss = total / len(training[1]) * plan.unit
        valid = held / len(validation[1]) * plan.unit if len(validation[1]) else None
        diverged = not np.isfinite(loss)
        if diverged:
            break
        if course.end_epoch(loss, valid, metric):
            run.keep_best()
        if report or save or course.is_over:
            summary = {
                "epoch": course.epoch,
                "step": course.step,
                "training": loss,
                "validation": valid,
                "resumed_from": resumed_from,
                "history": run.told_history() if rank == 0 else [],
            }
            _report(run, summary, save=bool(save))
            reported_at = time.monotonic()
            saved_at = reported_at if save else saved_at
    if rank:
        return {}
    finished = run.best or run.network.state_dict()
    return {
        "parameters": {name: values.detach().cpu().numpy() for name, values in finished.items()},
        "history": run.told_history(),
        "chosen": [choice.model_dump(mode="json") for choice in course.chosen],
        "step": course.step,
        "epoch": course.epoch + diverged,
        "training": loss,
        "workers": world,
        "resumed_from": resumed_from,
        "device": device.type,
        "diverged": diverged,
    }


def _batches(run: Run, rows: int, device: torch.device) -> Iterator[tuple[torch.Tensor, int]]:
    """This worker's share of each step's rows, and how many rows the step has over all workers."""
    plan = run.plan
    order = np.arange(rows) if plan.batch_rows >= rows else row_order(plan.seed, run.course.epoch + 1, rows)
    numbers = torch.from_numpy(order).to(device)
    for start in range(0, rows, plan.batch_rows):
        batch = numbers[start : start + plan.batch_rows]
        yield batch[run.rank :: run.world] if run.world > 1 else batch, len(batch)


def _epoch(run: Run, model: torch.nn.Module, part: tuple[torch.Tensor, torch.Tensor]) -> float:
    """One pass over the training part; the sum of this worker's losses."""
    x, y = part
    plan, course = run.plan, run.course
    if plan.architecture.dropout:
        torch.manual_seed(int(dropout_stream(plan.seed, course.epoch + 1, run.rank).integers(2**31)))
    augment = None
    if plan.augmentation is Augmentation.LIGHT:
        augment = Light(plan.seed, course.epoch + 1, *x.shape[:3])
    parts = plan.gradients.accumulation_steps
    total = torch.zeros((), device=x.device)
    # The workers' gradients are averaged, so a sum over all rows needs their number as a factor.
    factors = {
        rows: torch.tensor(run.world / rows, device=x.device)
        for rows in (plan.batch_rows, len(y) % plan.batch_rows, len(y))
        if rows
    }
    for share, rows in _batches(run, len(y), x.device):
        run.optimizer.zero_grad()
        # As many pieces on every worker, for normalisation over the workers waits for each of them; none without any row.
        pieces = share.tensor_split(most) if (most := min(parts, math.ceil(rows / run.world))) > 1 else (share,)
        for piece in pieces:
            # Gradients travel between workers once a step, with its last piece.
            alone = piece is not pieces[-1] and isinstance(model, DistributedDataParallel)
            with model.no_sync() if alone else nullcontext():
                batch = x[piece] if augment is None else augment(x, piece)
                loss = total_loss(plan.loss, model(batch), y[piece])
                loss.backward(factors[rows])
                total += loss.detach()
        if plan.gradients.clip_value is not None:
            torch.nn.utils.clip_grad_value_(run.network.parameters(), plan.gradients.clip_value)
        if plan.gradients.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(run.network.parameters(), plan.gradients.clip_norm)
        for group in run.optimizer.param_groups:
            group["lr"] = course.rate
        run.optimizer.step()
        course.step += 1
    return float(total)


def _held_out(run: Run, part: tuple[torch.Tensor, torch.Tensor], target: Affine) -> tuple[float, float]:
    """The sum of the losses of this worker's share of the validation part; of the first worker also the metric of the whole."""
    plan = run.plan
    run.network.eval()
    with torch.no_grad():
        x, y = (values[run.rank :: run.world] for values in part)
        loss = float(total_loss(plan.loss, run.network.in_pieces(x), y))
        metric = 0.0
        if plan.stop is not None and plan.stop_on != LOSS and run.rank == 0:
            outputs = run.network.in_pieces(part[0]).double().cpu().numpy()
            of = metrics.answers(plan.architecture.head, target, outputs, part[1].cpu().numpy())
            metric = metrics.value(plan.stop_on, of)
    run.network.train()
    return loss, metric


def _over_workers(run: Run, values: list[float]) -> list[float]:
    if run.world == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return [float(value) for value in sums]


def _report(run: Run, told: dict[str, Any], *, save: bool) -> None:
    if run.rank == 0:
        # Ray prints what a worker writes into the driver's log.
        sys.stdout.write(f"epoch {run.course.epoch} of {run.plan.epochs}: loss {told['training']:.6g}, {run.world} workers\n")
        sys.stdout.flush()
    if not save or run.rank:
        ray.train.report(told)
        return
    with tempfile.TemporaryDirectory() as folder:
        run.save(Path(folder))
        ray.train.report(told, checkpoint=Checkpoint.from_directory(folder))
