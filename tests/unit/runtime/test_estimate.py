"""What a training will need: the formulas, what of them can be measured, and how the time is told again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.contract.config import WorkerBounds
from eagleray_runtime.contract.reports import DataReport
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.streaming import POOL_NUMBERS
from eagleray_runtime.models.architecture import Dense, Transformer
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver, numpy_engine
from eagleray_runtime.training.engines import below
from eagleray_runtime.training.estimate import (
    CHUNK_COPIES,
    CUDA_BYTES,
    GPU,
    MIB,
    NUMBERS_READ,
    NUMPY,
    POOL_COPIES,
    TORCH,
    after_training,
    estimate,
    judged,
    refined,
)
from eagleray_runtime.training.outcome import FirstEpoch
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.progress import Progress

ONE = WorkerBounds(min=1, max=1, cpus=1, gpus=0)
FOUR = WorkerBounds(min=4, max=8, cpus=1, gpus=0)
ON_GPUS = WorkerBounds(min=1, max=1, cpus=1, gpus=1)
DATA = DataReport(rows=1_250_000, training=1_000_000, validation=125_000, test=125_000)
WIDE = Dense(inputs=100, hidden=[1000], outputs=1, head="Identity")
PARAMETERS = 102_001


@pytest.fixture
def plan(job):
    """A plan of a network of one hidden layer on rows of 100 numbers, by Adam in steps of 32 rows."""

    def make(engine="Torch", workers=2, **training):
        bounds = {"min": 1, "max": workers, "cpus": 1, "gpus": 0}
        config = job(family="MultilayerPerceptron", training=training, engine=engine, workers=bounds)
        made, _ = decide(config, load(config))
        return made.model_copy(update={"architecture": WIDE, "row_numbers": 100, "batch_rows": 32})

    return make


def mebibytes(told):
    return int(told.removesuffix("Mi"))


def test_the_formulas(plan):
    made = plan(epochs=10)
    found = estimate(made, Engine.TORCH, ONE, DATA, trainings=1)
    assert found.parameters == PARAMETERS
    rows = 1_250_000 * 100 * (8 + 8 + 4)
    # Parameters, gradients and two moments; of 32 rows what goes into two layers and out of them; a piece of the validation part.
    network = PARAMETERS * 4 * 4 + 32 * 2 * 2 * 1000 * 4 + 2**24 * 4
    assert mebibytes(found.memory) == pytest.approx((TORCH.memory + rows + network) / MIB, abs=1)
    # The model, and three checkpoints of parameters and two moments.
    assert mebibytes(found.disk) == pytest.approx(PARAMETERS * 4 * (1 + 3 * 3) / MIB, abs=1)
    work = (6 * 1_000_000 + 2 * 125_000) * PARAMETERS
    seconds = TORCH.start_seconds + 10 * (31_250 * TORCH.step_seconds + work / TORCH.rate) + after_training(made, DATA)
    assert found.duration_seconds == pytest.approx(seconds, abs=0.1)
    assert found.gpu_memory is None
    assert found.error_percent is None


@pytest.mark.parametrize(("workers", "lanes_of_each"), [(ONE, 8), (FOUR, 2)])
def test_rows_that_are_streamed_take_the_memory_of_those_that_are_mixed_and_read_and_the_time_to_read_them(
    plan, workers, lanes_of_each
):
    held = plan(epochs=10)
    streamed = held.model_copy(update={"lanes": 8, "chunk_rows": 5000})
    one, other = (estimate(each, Engine.TORCH, workers, DATA, trainings=1) for each in (held, streamed))
    mixed = (POOL_NUMBERS + lanes_of_each * 5000 * 100) * 4
    rows = POOL_COPIES * mixed + CHUNK_COPIES * 5000 * 100 * 8
    in_memory = 1_250_000 * 100 * (8 + 8 + 4)
    assert mebibytes(one.memory) - mebibytes(other.memory) == pytest.approx((in_memory - rows) / MIB, abs=2)
    once = 1_250_000 * 100 / NUMBERS_READ
    reading = 10 * 2 * once / workers.min + 3 * once
    assert other.duration_seconds - one.duration_seconds == pytest.approx(reading, abs=0.1)


def test_of_a_gpu_its_own_memory_is_told(plan):
    found = estimate(plan(epochs=10), Engine.TORCH, ON_GPUS, DATA, trainings=1)
    rows = 1_250_000 * 100
    network = PARAMETERS * 4 * 4 + 32 * 2 * 2 * 1000 * 4 + 2**24 * 4
    assert mebibytes(found.gpu_memory) == pytest.approx((CUDA_BYTES + rows * 4 + network) / MIB, abs=1)
    assert mebibytes(found.memory) == pytest.approx((GPU.memory + rows * 20) / MIB, abs=1)


@pytest.mark.parametrize(
    ("training", "factor"),
    [
        ({}, 4),
        ({"optimizer": {"type": "SGD"}}, 2),
        ({"optimizer": {"type": "SGD", "momentum": 0.9}}, 3),
        ({"precision": "Float64"}, 8),
        ({"parallelism": {"strategy": "FSDP"}}, 1),
    ],
    ids=str,
)
def test_the_state_takes_what_the_optimizer_precision_and_strategy_say(plan, training, factor):
    # So large that all else is nothing beside it.
    large = Dense(inputs=1, hidden=[1, 10**9], outputs=1, head="Identity")
    made = plan(**training).model_copy(update={"architecture": large, "batch_rows": 1, "row_numbers": 1})
    found = estimate(made, Engine.TORCH, FOUR, DATA.model_copy(update={"validation": 0}), trainings=1)
    activations = 3 * 2 * 10**9 * (8 if "precision" in training else 4)
    state = mebibytes(found.memory) * MIB - activations - TORCH.memory
    assert state == pytest.approx(large.parameters * 4 * factor, rel=0.01)


def test_layers_that_are_computed_again_need_half_of_what_is_remembered(plan):
    deep = Dense(inputs=10, hidden=[100_000] * 3, outputs=1, head="Identity")

    def memory(**training):
        made = plan(**training).model_copy(update={"architecture": deep, "batch_rows": 1000})
        return mebibytes(estimate(made, Engine.TORCH, ONE, DATA, trainings=1).memory)

    less = memory() - memory(parallelism={"activationCheckpointing": "Full"})
    assert less == pytest.approx(4 * 1000 * 4 * 100_000 / MIB, rel=0.01)


def test_a_vocabulary_counts_once_and_not_for_every_layer():
    """Of SmolLM2-135M a step in Float32 held 156 MiB more for each row of 64 tokens (batches of 4 and of 15 rows)."""
    smollm2 = Transformer(
        vocabulary=49_152,
        tokens=64,
        layers=30,
        heads=9,
        size=576,
        feed_forward=1536,
        activation="SiLU",
        positions="Learned",
        pooling=None,
        outputs=49_152,
        head="NextToken",
    )
    assert 2 * smollm2.said * 4 / MIB == pytest.approx(156, rel=0.15)


def test_folds_take_as_long_as_the_model_itself(plan):
    made = plan(epochs=10)
    one, six = (estimate(made, Engine.TORCH, ONE, DATA, trainings=trainings).duration_seconds for trainings in (1, 6))
    apart = TORCH.start_seconds + after_training(made, DATA)
    assert six - apart == pytest.approx(6 * (one - apart), rel=1e-3)


def test_numpy_takes_what_its_checkpoints_and_its_model_take(job, folder, tmp_path: Path):
    model = {"multilayerPerceptron": {"hiddenLayers": [600, 600]}}
    config = job(family="MultilayerPerceptron", model=model, training={"epochs": 4, "checkpoint": {"everyEpochs": 1}})
    dataset = load(config)
    made, _ = decide(config, dataset)
    numpy_engine.train(made, dataset, Store(folder("checkpoints")), lambda end: None)
    checkpoints = [path.stat().st_size for path in (tmp_path / "checkpoints").iterdir()]
    assert len(checkpoints) == 2
    found = estimate(made, Engine.NUMPY, ONE, dataset.report, trainings=1)
    expected = 3 * max(checkpoints) + made.architecture.parameters * 8
    assert mebibytes(found.disk) == pytest.approx(expected / MIB, abs=1)
    assert mebibytes(found.memory) > NUMPY.memory / MIB


def test_the_first_epoch_is_a_measure_of_the_others_and_the_end_one_of_it(plan):
    before = estimate(plan(), Engine.TORCH, ONE, DATA, trainings=1)
    after = refined(before, 7.0, FirstEpoch(after=3.0, seconds=2.0), epochs=20, trainings=1)
    assert after.duration_seconds == 50
    # Each training of cross-validation begins with workers of its own.
    assert refined(before, 7.0, FirstEpoch(after=3.0, seconds=2.0), epochs=20, trainings=6).duration_seconds == 7 + 6 * 43
    assert (after.parameters, after.memory, after.disk) == (before.parameters, before.memory, before.disk)
    assert judged(after, 40).error_percent == 25
    assert judged(after, 100).error_percent == -50


def test_a_job_tells_its_estimate_before_it_trains_and_how_right_it_was_after_it(job):
    told = []

    class Listening(Reporter):
        def due(self, stage):
            return True

        def progress(self, report):
            told.append((report.stage, report.epoch, report.estimate))

    config = job(training={"epochs": 30}, evaluation={"crossValidation": {"folds": 2}})
    result = driver.run(config, Progress(config, Listening(None)))
    stages = [(stage, epoch) for stage, epoch, estimate in told if estimate is not None]
    assert stages[0] == ("Training", 0)
    first = told[len(told) - len(stages)][2]
    after = {estimate.duration_seconds for stage, epoch, estimate in told if epoch}
    assert len(after) == 1, "it is told anew once"
    assert after != {first.duration_seconds}
    final = result.progress.estimate
    assert final.duration_seconds in after
    taken = final.duration_seconds / (1 + final.error_percent / 100)
    assert 0 < taken < 60


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("left", ["folds.json", "trials.json", "checkpoint-0000000010-00.safetensors", None])
def test_the_estimate_is_judged_only_where_nothing_of_the_job_was_done_before(job, left, attempt):
    config = job(training={"epochs": 30}, evaluation={"crossValidation": {"folds": 2}}, attempt=attempt)
    if left is not None:
        scores = json.dumps([{"R2": 0.5}]).encode()
        Store(below(config.checkpoints, config.resource.uid)).write(left, scores)
    estimate = driver.run(config, Progress(config, Reporter(None))).progress.estimate
    assert estimate.duration_seconds > 0
    assert (estimate.error_percent is not None) == (left is None and attempt == 1)


@pytest.mark.parametrize("recovery", [0.0, 4.0])
def test_nor_is_it_judged_where_workers_were_started_anew(job, monkeypatch, recovery):
    config = job(training={"epochs": 5})
    trains = driver.train

    def with_a_loss(*given):
        outcome = trains(*given)
        progress.waited(lost=2.0, recovery=recovery)
        return outcome

    progress = Progress(config, Reporter(None))
    monkeypatch.setattr(driver, "train", with_a_loss)
    estimate = driver.run(config, progress).progress.estimate
    assert (estimate.error_percent is None) == (recovery > 0)


class LostError(Exception):
    pass


def test_a_training_that_went_on_from_a_checkpoint_is_no_measure(job):
    config = job(training={"epochs": 30})
    progress = Progress(config, Reporter(None))
    dataset = load(config)
    made, _ = decide(config, dataset)
    progress.estimated(estimate(made, Engine.NUMPY, ONE, dataset.report, trainings=1), 0.0)
    assert progress.judged() is None


def test_what_the_first_epoch_has_measured_is_not_told_by_the_formula_again_when_the_job_goes_on(job):
    told, losses = [], [20]

    class Listening(Reporter):
        def due(self, stage):
            return True

        def progress(self, report):
            if report.estimate is not None:
                told.append(report.estimate)
            if report.epoch in losses:
                losses.clear()
                raise LostError

    config = job(training={"epochs": 30, "checkpoint": {"everyEpochs": 1}})
    with pytest.raises(LostError):
        driver.run(config, Progress(config, Listening(None)))
    formula, *measured = told
    assert measured
    assert formula not in measured
    told.clear()
    result = driver.run(config.model_copy(update={"attempt": 2}), Progress(config, Listening(None)))
    assert result.progress.resumed_from_epoch == 19
    assert [*told, result.progress.estimate] == [None]


def test_the_first_fold_of_an_engine_on_other_processes_measures_all(job, monkeypatch):
    """It tells progress from there, and here but what came of it."""
    seconds, train = iter([1.0, 100.0, 100.0]), numpy_engine.train

    def elsewhere(plan, dataset, store, on_epoch, *more):
        outcome = train(plan, dataset, store, lambda end: None, *more)
        return replace(outcome, first_epoch=FirstEpoch(0.0, next(seconds)))

    monkeypatch.setattr(numpy_engine, "train", elsewhere)
    config = job(training={"epochs": 10}, evaluation={"crossValidation": {"folds": 2}})
    found = driver.run(config, Progress(config, Reporter(None))).progress.estimate
    assert found.duration_seconds == pytest.approx(3 * 10 * 1.0, abs=10)
