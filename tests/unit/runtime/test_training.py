"""The driver with the NumPy engine, from a configuration to a bundle."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import Location
from eagleray_runtime.contract.reports import HistoryPoint, Stage
from eagleray_runtime.data import sample
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.splitting import split_rows
from eagleray_runtime.errors import Diverged, ModelInvalid, StoreRefused
from eagleray_runtime.reports import Reporter, Stopped
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver, numpy_engine
from eagleray_runtime.training.checkpoints import Checkpoints
from eagleray_runtime.training.history import History
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.progress import Progress

REFERENCE = {"epochs": 1000, "optimizer": {"type": "GradientDescent", "learningRate": 0.01}}
PERCEPTRON = {"epochs": 30, "optimizer": {"type": "Adam", "learningRate": 0.01}}
CIRCLE = [
    "a,b,y",
    *(f"{a / 5},{b / 5},{'in' if (a - 5) ** 2 + (b - 5) ** 2 < 12 else 'out'}" for a in range(11) for b in range(11)),
]


def run(config):
    return driver.run(config, Progress(config, Reporter(None)))


def metric(result, name, part):
    return next(metric.value for metric in result.metrics if (metric.name, metric.part) == (name, part))


def least_squares(config):
    """Slope and intercept of the reference example's training part, by least squares."""
    table = sample.linear_regression(config.data.split.seed)
    rows = split_rows(100, config.data.split, None).training
    x, y = table["x"].values[rows], table["y"].values[rows]
    return np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), y)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("scaling", ["Standard", "MinMax"])
def test_the_reference_example_agrees_with_least_squares(job, seed, scaling):
    training = REFERENCE if scaling == "Standard" else REFERENCE | {"epochs": 20_000}
    config = job(data={"split": {"seed": seed}, "preparation": {"scaling": scaling}}, training=training)

    run(config)

    slope, intercept = least_squares(config)
    (found,) = read_bundle(Store(config.output)).manifest.coefficients
    assert found.weights["x"] == pytest.approx(slope, abs=1e-3)
    assert found.intercept == pytest.approx(intercept, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "optimizer", [{"type": "GradientDescent", "learningRate": 0.01}, {"type": "SGD", "momentum": 0.9}], ids=str
)
def test_run_to_convergence_the_reference_example_is_that_of_least_squares(job, seed, optimizer):
    # Mini-batches jump about the least squares for ever: a step of all rows does not.
    training = {"epochs": 4000, "batchSize": None if optimizer["type"] == "GradientDescent" else 100, "optimizer": optimizer}
    config = job(data={"split": {"seed": seed}}, training=training)
    run(config)
    slope, intercept = least_squares(config)
    (found,) = read_bundle(Store(config.output)).manifest.coefficients
    assert found.weights["x"] == pytest.approx(slope, abs=1e-6)
    assert found.intercept == pytest.approx(intercept, abs=1e-6)


def test_a_perceptron_learns_what_a_linear_model_cannot(job):
    linear = run(job(CIRCLE, family="LogisticRegression", training=PERCEPTRON | {"epochs": 100}))
    config = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON | {"epochs": 100})
    config = config.model_copy(update={"output": Location(uri=config.output.uri + "2")})
    perceptron = run(config)
    assert metric(linear, "Accuracy", "Training") < 0.8
    assert metric(perceptron, "Accuracy", "Training") > 0.97


def test_regression_metrics_are_in_the_targets_own_unit(job):
    rows = ["x,y", *(f"{value},{1000 * value}" for value in range(50))]
    result = run(job(rows, training={"epochs": 1, "optimizer": {"type": "GradientDescent", "learningRate": 1e-9}}))
    # Nearly untrained, the prediction is the mean, so the error is the deviation.
    assert metric(result, "RMSE", "Training") == pytest.approx(1000 * np.arange(50).std(), rel=0.1)
    assert metric(result, "R2", "Training") == pytest.approx(0, abs=1e-6)
    assert result.progress.history[0].training == pytest.approx(metric(result, "RMSE", "Training") ** 2 / 2)


def test_the_same_seed_trains_the_same_model_and_another_seed_another(job):
    config = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON | {"seed": 1})
    again = config.model_copy(update={"output": Location(uri=config.output.uri + "-again")})
    other = again.model_copy(
        update={"training": again.training.model_copy(update={"seed": 2}), "output": Location(uri=config.output.uri + "-other")}
    )
    digest = run(config).model.digest
    assert run(again).model.digest == digest
    assert run(other).model.digest != digest


class InterruptedRunError(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bundle(job):
    config = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON)
    undisturbed = run(config.model_copy(update={"output": Location(uri=config.output.uri + "-whole")}))
    dataset = load(config)
    plan, _ = decide(config, dataset)
    checkpoints = Store(Location(uri=f"{config.checkpoints.uri}/{config.resource.uid}"))
    ticks = iter(range(0, 10_000, 11))  # eleven seconds an epoch: each one is saved

    def lost_in_epoch_17(end):
        if end.epoch == 17:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        numpy_engine.train(plan, dataset, checkpoints, lost_in_epoch_17, clock=lambda: float(next(ticks)))
    resumed = run(config.model_copy(update={"attempt": 2}))

    assert resumed.progress.resumed_from_epoch == 16
    assert resumed.model.digest == undisturbed.model.digest


DROPPED = {"family": "MultilayerPerceptron", "model": {"multilayerPerceptron": {"hiddenLayers": [16], "dropout": 0.3}}}
INTERRUPTED = {
    "dropout": (DROPPED, PERCEPTRON),
    "the best epoch": ({"family": "MultilayerPerceptron"}, PERCEPTRON | {"earlyStopping": {"patienceEpochs": 20}}),
    "a plateau": (
        {"family": "MultilayerPerceptron"},
        PERCEPTRON | {"schedule": {"type": "ReduceOnPlateau", "everyEpochs": 2, "factor": 0.5}},
    ),
    "a cosine with momentum": (
        {"family": "MultilayerPerceptron"},
        {"epochs": 30, "optimizer": {"type": "SGD", "momentum": 0.9}, "schedule": {"type": "Cosine", "warmupPercent": 10}},
    ),
}


@pytest.mark.parametrize(("model", "training"), INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_a_run_interrupted_at_every_epoch_comes_to_the_same_bundle(job, model, training):
    config = job(CIRCLE, training=training, **model)
    undisturbed = run(config.model_copy(update={"output": Location(uri=config.output.uri + "-whole")}))
    dataset = load(config)
    plan, _ = decide(config, dataset)
    checkpoints = Store(Location(uri=f"{config.checkpoints.uri}/{config.resource.uid}"))

    def lost(end):
        if end.epoch == epoch:
            raise InterruptedRunError

    for epoch in range(2, 28):
        ticks = iter(range(0, 10_000, 11))
        with pytest.raises(InterruptedRunError):
            numpy_engine.train(plan, dataset, checkpoints, lost, clock=lambda ticks=ticks: float(next(ticks)))
        before = next(Checkpoints(checkpoints, 2).newest_first())
        restored = numpy_engine.Run(plan)
        assert restored.restore(before)
        assert restored.course.epoch == epoch - 1
    resumed = run(config.model_copy(update={"attempt": 2}))

    assert resumed.progress.resumed_from_epoch == 26
    assert resumed.model.digest == undisturbed.model.digest


def test_training_goes_on_while_a_checkpoint_travels_and_ends_when_it_has_arrived(job, monkeypatch, folder):
    config = job(training=REFERENCE | {"epochs": 3, "checkpoint": {"everyEpochs": 1}})
    dataset = load(config)
    went_on, arrived = threading.Event(), []

    def slow(store, name, content):
        arrived.append(went_on.wait(20))

    def told(end):
        if end.epoch == 2:
            went_on.set()

    monkeypatch.setattr(Store, "write", slow)
    numpy_engine.train(decide(config, dataset)[0], dataset, Store(folder("checkpoints")), told)
    assert arrived == [True, True]


def test_a_store_that_refuses_a_checkpoint_ends_the_training(job, monkeypatch, folder):
    config = job(training=REFERENCE | {"epochs": 2, "checkpoint": {"everyEpochs": 1}})
    dataset = load(config)

    def refuse(store, name, content):
        raise StoreRefused("the store is full")

    monkeypatch.setattr(Store, "write", refuse)
    with pytest.raises(StoreRefused, match="full"):
        numpy_engine.train(decide(config, dataset)[0], dataset, Store(folder("checkpoints")), lambda end: None)


def test_a_step_that_is_computed_in_parts_is_the_same_step(job):
    whole = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON)
    run(whole)
    expected = read_bundle(Store(whole.output)).parameters
    parts = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON | {"gradients": {"accumulationSteps": 5}})
    run(parts.model_copy(update={"resource": parts.resource.model_copy(update={"uid": "uid-2"})}))
    found = read_bundle(Store(parts.output)).parameters
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-9)


def test_training_ends_early_and_the_model_is_that_of_the_best_epoch(job):
    # So high a rate that the loss soon goes up and down without becoming better.
    training = {
        "epochs": 500,
        "optimizer": {"type": "Adam", "learningRate": 0.5},
        "earlyStopping": {"metric": "Accuracy", "patienceEpochs": 4},
    }
    result = run(job(CIRCLE, family="MultilayerPerceptron", training=training))
    chosen = {choice.field: choice for choice in result.chosen}["training.epochs"]
    assert result.progress.epoch == int(chosen.value) < 500
    assert "Accuracy did not improve for 4 epochs; the model is that of epoch" in chosen.reason
    best = int(re.search(r"that of epoch (\d+)", chosen.reason)[1])
    assert best == result.progress.epoch - 4
    again = job(CIRCLE, family="MultilayerPerceptron", training=training | {"epochs": best, "earlyStopping": None}, attempt=2)
    whole = run(again.model_copy(update={"resource": again.resource.model_copy(update={"uid": "uid-2"})}))
    assert metric(result, "Accuracy", "Validation") == metric(whole, "Accuracy", "Validation")


REFUSED = {
    "an early end without a validation part": (
        {"data": {"split": {"validationPercent": 0}}, "training": {"earlyStopping": {}}},
        "looks at the validation part, which is empty: set data.split.validationPercent",
    ),
    "a metric of another task": (
        {"training": {"earlyStopping": {"metric": "R2"}}},
        "R2 is not one of this task: use Loss",
    ),
    "a loss of another task": ({"training": {"loss": {"type": "Huber"}}}, "Huber does not go with LogisticRegression"),
    "two classes where there are three": (
        {"training": {"loss": {"type": "BinaryCrossEntropy"}}},
        "is for two classes, and y has 3: use CrossEntropy",
    ),
    "weights of a perceptron": (
        {"family": "Perceptron", "training": {"loss": {"classWeights": "Balanced"}}},
        "classWeights Balanced does not go with Perceptron",
    ),
}
THREE = ["x,y", *(f"{value},{'abc'[value // 10]}" for value in range(30))]


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused_in_clear_words(job, what):
    spec, words = REFUSED[what]
    with pytest.raises(ModelInvalid, match=re.escape(words)):
        run(job(THREE, **{"family": "LogisticRegression"} | spec))


def test_the_classic_rule_separates_what_a_line_can_separate(job):
    rows = ["a,b,y", *(f"{a},{b},{'over' if a + b > 9.5 else 'under'}" for a in range(10) for b in range(10))]
    result = run(job(rows, family="Perceptron", training={"epochs": 200}))
    chosen = {choice.field: choice.value for choice in result.chosen}
    assert [chosen[f"training.{field}"] for field in ("loss.type", "optimizer.type", "optimizer.learningRate", "batchSize")] == [
        "Perceptron",
        "SGD",
        "1.0",
        "1",
    ]
    assert metric(result, "Accuracy", "Training") == 1.0
    assert "LogLoss" not in {metric.name for metric in result.metrics}, "it gives no probabilities"


def test_balanced_weights_find_the_rare_class_more_often(job):
    # Both classes overlap; of the rare one there is one row in ten.
    random = np.random.default_rng(0)
    rows = ["x,y", *(f"{random.normal(rare)},{'rare' if rare else 'usual'}" for rare in (random.random(600) < 0.1))]

    def lean_to_rare(**loss):
        config = job(
            rows, family="LogisticRegression", training={"epochs": 60, "loss": loss, "optimizer": {"learningRate": 0.02}}
        )
        config = config.model_copy(update={"output": Location(uri=f"{config.output.uri}-{len(loss)}")})
        run(config)
        bundle = read_bundle(Store(config.output))
        intercepts = {one.output: one.intercept for one in bundle.manifest.coefficients}
        return intercepts["rare"] - intercepts["usual"]

    assert lean_to_rare(classWeights="Balanced") > lean_to_rare() + 1.5


def test_a_checkpoint_of_another_plan_is_left_alone(job):
    config = job(CIRCLE, family="MultilayerPerceptron", training=PERCEPTRON)
    dataset = load(config)
    plan, _ = decide(config, dataset)
    saved = numpy_engine.Run(plan).save()
    assert numpy_engine.Run(plan).restore(saved)
    assert not numpy_engine.Run(plan.model_copy(update={"fingerprint": "other"})).restore(saved)
    assert not numpy_engine.Run(plan).restore(b"not a checkpoint")


def test_checkpoints_come_as_often_as_the_spec_says_and_the_newest_few_are_kept(job, tmp_path):
    training = {"epochs": 10, "checkpoint": {"everyEpochs": 3, "keep": 2}}
    config = job(CIRCLE, family="LogisticRegression", training=training)
    dataset = load(config)
    plan, _ = decide(config, dataset)
    store = Store(Location(uri=f"file://{tmp_path}/kept"))
    numpy_engine.train(plan, dataset, store, lambda end: None)
    assert [name.split("-")[1] for name in store.names("*")] == ["0000000006", "0000000009"]


def test_a_checkpoint_that_is_not_what_was_written_is_passed_over_for_the_one_before_it(job, tmp_path):
    config = job(CIRCLE, family="LogisticRegression", training={"epochs": 10, "checkpoint": {"everyEpochs": 3}})
    dataset = load(config)
    plan, _ = decide(config, dataset)
    store = Store(Location(uri=f"file://{tmp_path}/kept"))
    whole = numpy_engine.train(plan, dataset, store, lambda end: None)
    newest = tmp_path / "kept" / store.names("*")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = numpy_engine.train(plan, dataset, store, lambda end: None)
    assert resumed.resumed_from == 6
    for name, values in whole.parameters.items():
        assert resumed.parameters[name].tolist() == values.tolist()


def test_checkpoints_are_removed_when_the_bundle_is_complete(job, tmp_path):
    config = job(training=REFERENCE)
    store = Store(Location(uri=f"{config.checkpoints.uri}/{config.resource.uid}"))
    with Checkpoints(store, 2) as before:
        before.write(3, b"of a lost attempt")
    run(config)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_new_attempt_only_reports_a_bundle_that_is_complete(job, monkeypatch):
    first = run(job(training=REFERENCE))
    monkeypatch.setattr(driver, "clean", lambda config: pytest.fail("the data was read again"))
    second = run(job(training=REFERENCE, attempt=2))
    assert second.attempt == 2
    assert second.progress.resumed_from_epoch == second.progress.epoch == first.progress.epoch
    assert second.model_copy(update={"attempt": 1, "progress": first.progress}) == first


def test_a_bundle_of_another_job_is_replaced(job):
    run(job(training=REFERENCE))
    config = job(training=REFERENCE)
    other = config.model_copy(update={"resource": config.resource.model_copy(update={"uid": "uid-2"})})
    run(other)
    assert read_bundle(Store(config.output)).manifest.lineage.uid == "uid-2"


def test_a_loss_that_is_not_finite_ends_the_attempt(job):
    config = job(training={"epochs": 500, "optimizer": {"type": "GradientDescent", "learningRate": 100}})
    with pytest.raises(Diverged, match=r"set training\.optimizer\.learningRate below"):
        run(config)
    assert not Store(config.output).exists("bundle.json")


def test_what_the_runtime_chose_is_told_with_its_reason(job):
    chosen = {choice.field: choice for choice in run(job(CIRCLE, family="MultilayerPerceptron")).chosen}
    assert {field: choice.value for field, choice in chosen.items()} == {
        "model.task": "Classification",
        "training.loss.type": "CrossEntropy",
        "data.split.method": "Stratified",
        "training.optimizer.type": "Adam",
        "training.optimizer.learningRate": "0.025",
        "training.batchSize": "25",
        "model.initialization.method": "HeNormal",
        "training.precision": "Float64",
    }
    assert all(choice.reason for choice in chosen.values())


@pytest.mark.parametrize(
    ("family", "training", "rate"),
    [
        ("MultilayerPerceptron", {"epochs": 1, "batchSize": 80}, 0.03),
        ("MultilayerPerceptron", {"epochs": 20, "batchSize": 8}, 0.0077),
        ("LogisticRegression", {"epochs": 3000}, 0.001),
        ("LogisticRegression", {"optimizer": {"type": "Adam"}}, 0.001),
        ("LogisticRegression", {"optimizer": {"type": "SGD"}}, 0.01),
        ("Perceptron", {}, 1.0),
    ],
)
def test_the_fewer_steps_a_dense_network_takes_the_longer_they_are_unless_the_optimizer_is_named(job, family, training, rate):
    config = job(CIRCLE, family=family, training=training)
    plan, _ = decide(config, load(config))
    assert plan.optimizer.learning_rate == rate


@pytest.mark.parametrize(
    ("family", "rows", "optimizer", "batch"),
    [
        ("LinearRegression", 3, {}, 3),
        ("LinearRegression", 8, {}, 4),
        ("LinearRegression", 32, {}, 8),
        ("MultilayerPerceptron", 200, {}, 32),
        ("LinearRegression", 32, {"type": "Adam"}, 32),
        ("LinearRegression", 16, {"type": "SGD"}, 16),
    ],
)
def test_few_rows_of_a_dense_network_make_some_steps_an_epoch_unless_the_optimizer_is_named(job, family, rows, optimizer, batch):
    lines = ["x,y", *(f"{row},{row}" for row in range(rows))]
    nothing_held_out = {"split": {"validationPercent": 0, "testPercent": 0}}
    config = job(lines, family=family, data=nothing_held_out, training={"optimizer": optimizer})
    plan, _ = decide(config, load(config))
    assert plan.batch_rows == batch


@pytest.mark.parametrize("rows", [8, 16, 24, 32, 40, 60])
def test_a_line_of_few_rows_is_found_with_all_defaults(job, rows):
    result = run(job(["x,y", *(f"{x / rows},{3 * x / rows + 2}" for x in range(rows))]))
    assert metric(result, "R2", "Training") > 0.98


def test_history_is_bounded_and_the_same_after_a_restart():
    whole, resumed = History(), History()
    for epoch in range(1, 1001):
        point = HistoryPoint(epoch=epoch, training=1 / epoch)
        whole.add(point)
        resumed.add(point)
        if epoch % 37 == 0:
            resumed = History(resumed.points)
        assert len(whole.points) <= 50
    assert resumed.points == whole.points
    assert [whole.points[0].epoch, whole.points[-1].epoch] == [1, 1000]


@pytest.mark.parametrize(
    ("change", "last_line"),
    [
        (
            {"data": {"configMapRef": {"name": "a", "key": "a.csv"}, "target": "weight"}},
            "DataInvalid: data.target: the data has no column",
        ),
        ({"output": {"uri": "ftp://host/path"}}, "StoreRefused: ftp://host/path: the scheme is not known"),
        ({"engine": "Pickle"}, "ContainerFailed: "),
    ],
)
def test_a_failed_attempt_ends_with_its_cause_on_the_last_line(job, tmp_path, change, last_line):
    config = json.loads(job(CIRCLE, family="LogisticRegression").model_dump_json(by_alias=True)) | change
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    ended = subprocess.run(
        [sys.executable, "-m", "eagleray_runtime.training"],
        env={"EAGLERAY_CONFIG": str(path), "EAGLERAY_ALLOW_FILE_URIS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(last_line)


def test_a_process_that_gets_no_memory_says_so(job, monkeypatch, capsys):
    def run(*_):
        raise MemoryError("Unable to allocate 8 GiB")

    monkeypatch.setattr(driver, "run", run)
    assert driver.attempt(job(CIRCLE, family="LogisticRegression")) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("OutOfMemory: MemoryError: Unable to allocate 8 GiB. Raise workers.memory")


def test_the_numpy_engine_loads_neither_torch_nor_ray(job, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(job(training=REFERENCE).model_dump_json(by_alias=True))
    code = (
        "import sys; from eagleray_runtime.training.driver import main; status = main(); "
        "stores = ('s3fs', 'gcsfs', 'adlfs', 'huggingface_hub'); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'ray', 'pandas', *stores)))"
    )
    env = {"EAGLERAY_CONFIG": str(path), "EAGLERAY_ALLOW_FILE_URIS": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert Path(tmp_path / "model" / "bundle.json").exists()


def test_every_stage_after_training_still_tells_how_far_it_came(job):
    told = []

    class Listener(Reporter):
        def progress(self, report):
            told.append(report)

        def due(self, stage):
            return True

    config = job(training=REFERENCE | {"epochs": 20})
    driver.run(config, Progress(config, Listener(None)))
    assert [report.stage for report in told if report.epoch in (0, 20)] == [
        "Preparing",
        "Training",
        "Training",
        "Evaluating",
        "Saving",
    ]
    assert [report.percent for report in told] == sorted(report.percent for report in told)
    assert all(report.history and report.metrics and report.chosen for report in told if report.epoch)


def test_an_attempt_that_nobody_waits_for_ends_without_a_bundle(job, monkeypatch, capfd):
    class Superseded(Reporter):
        def due(self, stage):
            if stage == "Training":
                raise Stopped("409 Conflict: attempt 2 has taken over")
            return False

    monkeypatch.setattr(driver, "Reporter", Superseded)
    config = job(training=REFERENCE)
    assert driver.attempt(config) == 1
    assert capfd.readouterr().err.splitlines()[-1] == "Stopped: 409 Conflict: attempt 2 has taken over"
    assert not Store(config.output).exists("bundle.json")


def test_it_is_told_how_long_training_waited_for_checkpoints(job, folder, monkeypatch):
    config = job(training={"epochs": 5, "checkpoint": {"everyEpochs": 2}})
    dataset, now, ends = load(config), [100.0], []
    store, write = Store(folder("checkpoints")), Checkpoints.write

    def slowly(self, epoch, content):
        # As where the one before is still on its way.
        now[0] += 7.0
        write(self, epoch, content)

    def on_epoch(end):
        now[0] += 1.0
        ends.append((end.checkpoint_seconds, end.unsaved_seconds))

    monkeypatch.setattr(Checkpoints, "write", slowly)
    outcome = numpy_engine.train(decide(config, dataset)[0], dataset, store, on_epoch, lambda: now[0])
    # After epochs 2 and 4 a checkpoint is written; none after the last one.
    assert ends == [(0, 0), (0, 1), (7, 0), (7, 1), (14, 0)]
    assert outcome.checkpoint_seconds == 14


def test_time_is_counted_from_when_training_began(job):
    progress = Progress(job(), Reporter(None))
    progress.stage(Stage.PREPARING)
    assert progress.last.spent is None
    progress.stage(Stage.TRAINING)
    progress.waited(checkpoint=3)
    progress.waited(checkpoint=1, lost=2, recovery=-1)
    progress.waited(lost=-1)
    progress.stage(Stage.EVALUATING)
    spent = progress.last.spent
    assert spent is not None
    assert (spent.checkpoint, spent.lost, spent.recovery, spent.unsaved) == (4, 2, 0, 0)
    assert 0 <= spent.seconds < 60
