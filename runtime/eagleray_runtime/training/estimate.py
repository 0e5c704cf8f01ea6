"""What a training will need, told before it begins; its time once more after the first epoch, and how right that was at the end.

Only sizes and counts go in, so that the same spec and data are told the same. What machines differ in are the constants, which
were measured on one core of a server of 2021 (AVX2), Python 3.11, NumPy 2 and torch 2.15: time is right within a few times there,
and after the first epoch as far as all epochs take as long.
"""

import math
from dataclasses import dataclass

from eagleray_runtime.contract.blocks import ActivationCheckpointing, Engine, Precision, Strategy
from eagleray_runtime.contract.config import WorkerBounds
from eagleray_runtime.contract.reports import DataReport, Estimate
from eagleray_runtime.data.streaming import POOL_NUMBERS
from eagleray_runtime.training.devices import state_bytes
from eagleray_runtime.training.evaluation import resamples
from eagleray_runtime.training.outcome import FirstEpoch
from eagleray_runtime.training.plan import Plan

MIB = 2**20


@dataclass(frozen=True)
class Machine:
    """What an engine takes and gives on a device.

    `memory` is that of a process without rows and network, in bytes; `step_seconds` what a step takes beside its
    arithmetic, `start_seconds` what comes before the first; `rate` is operations a second, of one core or GPU.
    """

    memory: int
    step_seconds: float
    start_seconds: float
    rate: float


NUMPY = Machine(memory=150 * MIB, step_seconds=1e-4, start_seconds=0.1, rate=1.5e10)
TORCH = Machine(memory=1000 * MIB, step_seconds=7e-4, start_seconds=15.0, rate=3e10)
GPU = Machine(memory=1000 * MIB, step_seconds=7e-4, start_seconds=20.0, rate=2e13)
EXCHANGE_SECONDS = 2e-3
"""What gradients take between workers, each step."""

NUMBERS_SECONDS, CLASSES_SECONDS = 5e-5, 5e-4
"""What a metric of one resample of some hundred rows takes, of numbers and of classes."""

CUDA_BYTES = 500 * MIB
"""What CUDA takes of a GPU for itself."""

POOL_COPIES, CHUNK_COPIES = 3, 8
"""How often rows that are streamed are held: a pool that is learned from, and the next one as it comes and joined; a chunk as
bytes, by Arrow, as columns, those of one part of them, prepared, and some of it for the chunk before."""

ANSWER_NUMBERS = 3
"""Numbers of a row that metrics take beside the outputs: what is right, and what was answered, in two units."""

NUMBERS_READ = 2e7
"""Prepared numbers a second that a process reads of rows of Parquet on a disk; text takes longer, as does a store far away."""

HELD_OUT_NUMBERS = 2**24
"""Numbers of a layer's outputs that are computed at a time of the validation part."""


def estimate(plan: Plan, engine: Engine, workers: WorkerBounds, data: DataReport, trainings: int) -> Estimate:
    """What training on that data needs, of each of the fewest workers that it may have.

    With P parameters of s bytes, R rows of N numbers, B rows of a step on W workers and A numbers that all layers together say to
    a row:

    - memory = process + state + s B/W 2 A + rows. State is what `devices.state_bytes` says (P s times the copies that the
      optimiser keeps; FSDP divides it by W). Autograd remembers what goes into a layer and what comes out of it before the
      activation (2 A); recomputing, only the former. Rows are held as they were read and prepared, and once more where an epoch
      orders them or a device computes. Of rows that are streamed, those are held that are mixed (`POOL_NUMBERS` and a chunk of
      each lane, `POOL_COPIES` times) and those of a chunk that is read (`CHUNK_COPIES`); with NumPy, which evaluates in the
      process that trains, later in the place of mixed ones what the model says to the largest part.
    - disk = P s + (keep + 1) times what a checkpoint holds: the state without gradients, one more being written than is kept.
    - durationSeconds = start + trainings * epochs * (steps * overhead + (6 R_training + 2 R_validation) M / (rate W)) + end. M is
      the number of multiplications of a row: two operations each forward, and twice that for the gradients (Kaplan et al. 2020,
      section 2.1). The end is what `after_training` says. Rows that are streamed are read for each part anew, all R of them,
      in the epochs by W workers and in the end by one.

    Args:
        plan: what is trained. engine: by what. workers: on how many, with what.
        data: what became of the rows.
        trainings: of that plan: the model's own and those of the folds.
    """
    architecture, size = plan.architecture, _bytes(plan, engine)
    count = workers.min
    state = state_bytes(plan)
    shared = state // count if plan.parallelism.strategy is Strategy.FSDP else state
    remembered = 1 if plan.parallelism.activation_checkpointing is ActivationCheckpointing.FULL else 2
    share = math.ceil(plan.batch_rows / count)
    activations = size * share * remembered * architecture.said
    activations += size * min(HELD_OUT_NUMBERS, data.validation * architecture.widest)
    machine = NUMPY if engine is Engine.NUMPY else GPU if workers.gpus else TORCH
    rows = (data.training + data.validation + data.test) * plan.row_numbers
    held, on_device = rows * (8 + 8 + size), rows * size
    if plan.lanes:
        chunk = plan.chunk_rows * plan.row_numbers
        mixed = min(rows, POOL_NUMBERS + math.ceil(plan.lanes / count) * chunk) * size * POOL_COPIES
        answers = max(data.training, data.validation, data.test) * 8 * (architecture.outputs + ANSWER_NUMBERS)
        held = (max(mixed, answers) if engine is Engine.NUMPY else mixed) + chunk * 8 * CHUNK_COPIES
        on_device = 0
    computed = 0 if workers.gpus else shared + activations
    memory = machine.memory + held + computed
    checkpoint = state - architecture.parameters * size
    return Estimate(
        parameters=architecture.parameters,
        memory=quantity(memory),
        gpu_memory=quantity(CUDA_BYTES + on_device + shared + activations) if workers.gpus else None,
        disk=quantity(architecture.parameters * size + (plan.checkpoint.keep + 1) * checkpoint),
        duration_seconds=round(
            machine.start_seconds + trainings * plan.epochs * _epoch(plan, machine, workers, data) + after_training(plan, data), 3
        ),
    )


def after_training(plan: Plan, data: DataReport) -> float:
    """Seconds of the evaluation, nearly all of which go to the resamples of its intervals, and to reading rows that are
    streamed."""
    each = NUMBERS_SECONDS if plan.architecture.head == "Identity" else CLASSES_SECONDS
    parts = sum(rows > 0 for rows in (data.training, data.validation, data.test))
    return (resamples(data.validation) + resamples(data.test)) * len(plan.metrics) * each + parts * _reading(plan, data)


def refined(before: Estimate, apart: float, first: FirstEpoch, epochs: int, trainings: int) -> Estimate:
    """The estimate after the first epoch of so many trainings of so many; `apart` are seconds before and after them."""
    return before.model_copy(update={"duration_seconds": round(apart + trainings * (first.after + first.seconds * epochs), 3)})


def judged(before: Estimate, seconds: float) -> Estimate:
    """The estimate when it is known how long it took: 100 (told - true) / true."""
    return before.model_copy(update={"error_percent": round(100 * (before.duration_seconds - seconds) / max(seconds, 1e-3), 1)})


def quantity(size: float) -> str:
    """Bytes as a Kubernetes quantity, in whole mebibytes."""
    return f"{max(1, math.ceil(size / MIB))}Mi"


def _epoch(plan: Plan, machine: Machine, workers: WorkerBounds, data: DataReport) -> float:
    steps = math.ceil(data.training / plan.batch_rows) * plan.gradients.accumulation_steps
    each = machine.step_seconds + (EXCHANGE_SECONDS if workers.min > 1 else 0.0)
    work = (6 * data.training + 2 * data.validation) * plan.architecture.work
    rate = machine.rate * (workers.gpus or max(1.0, workers.cpus)) * workers.min
    passes = 2 if data.validation else 1
    return steps * each + work / rate + passes * _reading(plan, data) / workers.min


def _reading(plan: Plan, data: DataReport) -> float:
    """Seconds in which one process reads and prepares all rows once, where they are streamed."""
    return data.rows * plan.row_numbers / NUMBERS_READ if plan.lanes else 0.0


def _bytes(plan: Plan, engine: Engine) -> int:
    return 8 if engine is Engine.NUMPY or plan.precision is Precision.FLOAT64 else 4
