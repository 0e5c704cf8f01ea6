"""What each of Ray Train's workers does: epochs to the end, with reports and checkpoints as they are due."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train import Checkpoint, CheckpointUploadMode

from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.training.allocator import keep_freed_memory
from eagleray_runtime.training.plan import Plan
from eagleray_runtime.training.torch_rows import received
from eagleray_runtime.training.torch_run import Run, Tensors
from eagleray_runtime.training.torch_step import epoch, held_out, over_workers

REPORT_SECONDS = 5.0
"""At most so often, counted from the end of the last report, for `report` waits until the one before it has been taken."""


def train(told: dict[str, Any]) -> dict[str, Any]:
    """Train to the end, from the checkpoint that Ray Train has; the first worker's answer is the run's.

    Args:
        told: `train_loop_config`, as `torch_engine` makes it.
    """
    keep_freed_memory()
    plan = Plan.model_validate(told["plan"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # A node may promise a GPU that CUDA does not find; Ray names the device by the promise.
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    training, validation = (received(part, device) for part in ray.get(told["parts"]))
    group = torch.distributed.new_group(backend="nccl") if device.type == "cuda" and world > 1 else None
    run = Run(plan, device, rank, world, group, ray.get(told["start"]) if told["start"] else None)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            run.restore(Path(folder))
    course, resumed_from = run.course, run.course.epoch
    # The first epoch is told at once, for it shows how many workers there are now.
    reported_at, saved_at, saving, uploads = float("-inf"), time.monotonic(), 0.0, _Uploads()
    began, first_epoch = time.time(), None
    kept_until = began
    target = Affine.model_validate(told["target"])
    while not course.is_over:
        total = epoch(run, training)
        held, metric = held_out(run, validation, target)
        now = time.monotonic()
        # A report waits for those before it, and would wait for a checkpoint that travels.
        is_due = now - reported_at >= REPORT_SECONDS and not uploads.is_under_way
        wishes = [is_due, plan.is_checkpoint(course.epoch + 1, now - saved_at)]
        # One reduction an epoch: the losses, and what only the first worker knows: the metric, and its wish to report.
        shared = [total, held, metric, *(float(wish and rank == 0) for wish in wishes)]
        total, held, metric, report, save = over_workers(run, shared)
        loss = total / training.amount(plan.loss) * plan.unit
        valid = held / validation.amount(plan.loss) * plan.unit if validation.rows else None
        # What it refuses it refuses on every worker, for all have the same losses.
        if course.end_epoch(loss, valid, metric):
            run.keep_best()
        if course.epoch == 1:
            first_epoch = (began - told["asked_at"], time.time() - began)
        if save:
            kept_until = time.time()
        if report or save or course.is_over:
            summary = {
                "epoch": course.epoch,
                "step": course.step,
                "training": loss,
                "validation": valid,
                "resumed_from": resumed_from,
                "history": run.told_history() if rank == 0 else [],
                "chosen": [choice.model_dump(mode="json") for choice in run.chosen],
                "began": began,
                "first_epoch": first_epoch,
                "checkpoint_seconds": saving,
                "saved_at": kept_until,
            }
            _report(run, summary, uploads, save=bool(save))
            reported_at = time.monotonic()
            if save:
                saved_at, saving = reported_at, saving + reported_at - now
    finished = run.finished()
    if rank:
        return {}
    return {
        "parameters": {name: values.cpu().numpy() for name, values in finished.items()},
        "history": run.told_history(),
        "chosen": [choice.model_dump(mode="json") for choice in [*run.chosen, *course.chosen]],
        "step": course.step,
        "epoch": course.epoch,
        "workers": world,
        "resumed_from": resumed_from,
        "device": device.type,
        "checkpoint_seconds": saving,
        "first_epoch": first_epoch,
    }


class _Uploads:
    """Of the first worker: checkpoints travel to the store while training goes on, one at a time."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    @property
    def is_under_way(self) -> bool:
        # Ray Train removes a folder when it is in the store; one that does not get there ends the worker.
        return self._folder is not None and self._folder.exists()

    def report(self, run: Run, told: dict[str, Any], tensors: Tensors) -> None:
        """Report with a checkpoint of these tensors, once the one before it is in the store."""
        while self.is_under_way:
            time.sleep(0.02)
        self._folder = Path(tempfile.mkdtemp(prefix="checkpoint-"))
        run.save(self._folder, tensors)
        checkpoint = Checkpoint.from_directory(self._folder)
        ray.train.report(told, checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)


def _report(run: Run, told: dict[str, Any], uploads: _Uploads, *, save: bool) -> None:
    if run.rank == 0:
        # Ray prints what a worker writes into the driver's log.
        sys.stdout.write(f"epoch {run.course.epoch} of {run.plan.epochs}: loss {told['training']:.6g}, {run.world} workers\n")
        sys.stdout.flush()
    tensors = run.tensors() if save else {}
    if save and run.rank == 0:
        uploads.report(run, told, tensors)
    else:
        ray.train.report(told)
