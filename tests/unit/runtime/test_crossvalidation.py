"""Folds of the rows, and what is told of the trainings on them."""

import statistics

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.blocks import SplitMethod
from eagleray_runtime.contract.config import Location
from eagleray_runtime.data.loading import clean, folds, load
from eagleray_runtime.data.splitting import fold_rows
from eagleray_runtime.data.table import Column, Kind
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver, numpy_engine
from eagleray_runtime.training.progress import Progress

ROWS = ["a,b,y", *(f"{a},{b},{'over' if a * b > 20 else 'under'}" for a in range(10) for b in range(10))]
TRAINING = {"epochs": 15, "optimizer": {"type": "Adam", "learningRate": 0.05}}
FIVE = {"crossValidation": {"folds": 5}}


def dealt(rows=60, count=5, method=SplitMethod.RANDOM, **more):
    return list(fold_rows(rows, count, method, 0, more.get("classes"), more.get("groups")))


def test_each_row_is_validated_on_once_and_trained_on_in_all_other_folds():
    found = dealt(62)
    assert sorted(np.concatenate([validation for _, validation in found])) == list(range(62))
    for training, validation in found:
        assert sorted([*training, *validation]) == list(range(62))
    assert {len(validation) for _, validation in found} == {12, 13}


def test_each_fold_has_the_classes_in_the_proportion_of_the_whole():
    classes = np.array(["rare"] * 10 + ["usual"] * 50)
    for _, validation in dealt(classes=classes):
        assert (classes[validation] == "rare").sum() == 2


def test_a_group_is_never_in_two_folds_and_the_folds_are_about_as_large():
    names = np.array([f"g{number}" for number in range(12) for _ in range(1 + number % 5)], dtype=np.object_)
    found = dealt(len(names), groups=Column(Kind.TEXT, names))
    for training, validation in found:
        assert not set(names[training]) & set(names[validation])
    sizes = [len(validation) for _, validation in found]
    assert max(sizes) - min(sizes) <= 3


def test_in_order_of_time_nothing_is_validated_on_before_what_was_trained_on():
    found = dealt(60, method=SplitMethod.CHRONOLOGICAL)
    assert [len(training) for training, _ in found] == [10, 20, 30, 40, 50]
    for training, validation in found:
        assert training.max() + 1 == validation.min()


@pytest.mark.parametrize("method", [SplitMethod.RANDOM, SplitMethod.CHRONOLOGICAL])
def test_more_folds_than_rows_are_refused(method):
    with pytest.raises(DataInvalid, match=r"4 rows are too few for 5 folds: lower evaluation\.crossValidation\.folds"):
        dealt(4, method=method)


def run(config, reporter=None):
    return driver.run(config, Progress(config, reporter or Reporter(None)))


def over_folds(result):
    return {metric.name: metric for metric in result.metrics if metric.part == "CrossValidation"}


def test_mean_and_deviation_are_those_of_trainings_on_each_fold(job):
    config = job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE)
    found = over_folds(run(config))
    accuracies = []
    for number, fold in enumerate(folds(config, clean(config), 5)):
        checkpoints = Store(Location(uri=f"{config.checkpoints.uri}/alone-{number}"))
        plan, _ = driver.decide(config, fold)
        trained = numpy_engine.train(plan, fold, checkpoints, lambda end: None)
        network = numpy_engine.Network(plan.architecture, trained.parameters)
        accuracies.append(float((network.forward(fold.validation.x).argmax(axis=1) == fold.validation.y).mean()))
    assert found["Accuracy"].value == pytest.approx(statistics.mean(accuracies))
    assert found["Accuracy"].deviation == pytest.approx(statistics.stdev(accuracies))
    assert found["Accuracy"].deviation > 0


def test_the_rows_to_test_on_are_in_no_fold_and_the_model_is_the_one_without_folds(job):
    config = job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE)
    assert all(fold.training.rows + fold.validation.rows == 90 for fold in folds(config, clean(config), 5))
    with_folds = run(config)
    alone = job(ROWS, family="LogisticRegression", training=TRAINING, output={"uri": config.output.uri + "-alone"})
    run(alone)
    # Weights are named by what they hold.
    names = [read_bundle(Store(each.output)).manifest.weights for each in (config, alone)]
    assert names[0] == names[1]
    assert {metric.part for metric in with_folds.metrics} == {"Training", "Validation", "Test", "CrossValidation"}


def test_the_model_card_tells_how_sure_each_figure_is(job, tmp_path):
    config = job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE | {"confidencePercent": 90})
    found = {(metric.name, metric.part): metric for metric in run(config).metrics}
    (card,) = (tmp_path / "model").glob("MODEL_CARD-*.md")
    lines = card.read_text().splitlines()
    tested, folded, learned = (found["Accuracy", part] for part in ("Test", "CrossValidation", "Training"))
    assert "| metric | part | value | 90 % interval |" in lines
    assert f"| Accuracy | Test | {tested.value:.6g} | {tested.low:.6g} to {tested.high:.6g} |" in lines
    assert f"| Accuracy | CrossValidation | {folded.value:.6g} | deviation {folded.deviation:.6g} between the folds |" in lines
    assert f"| Accuracy | Training | {learned.value:.6g} |  |" in lines


def test_the_preparation_of_a_fold_is_fitted_to_its_own_training_rows(job):
    config = job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE)
    offsets = {fold.preparation.affines[0].offset for fold in folds(config, clean(config), 5)}
    assert len(offsets) > 1
    assert load(config).preparation.affines[0].offset not in offsets


IN_TIME = {"split": {"method": "Chronological"}}


def of_classes(places):
    """120 rows of the classes a and b, of which those at these places are of class c."""
    return ["x,y", *(f"{row},{'c' if row in places else 'ab'[row % 2]}" for row in range(120))]


def test_a_class_that_is_in_the_rows_to_test_on_alone_is_none_of_a_fold(job):
    config = job(of_classes(range(108, 120)), family="LogisticRegression", data=IN_TIME)
    assert [fold.classes for fold in folds(config, clean(config), 3)] == [["a", "b"]] * 3


FEW = {
    "in order of time": (range(60, 84), IN_TIME, "has 24 rows .* fold 2 of 3 trains on none of them: give rows .* earlier"),
    "by class": ([60], {}, "has 1 row .* trains on none of them: give more rows of it to train on, or drop"),
    "by chance": ([60], {"split": {"method": "Random"}}, "set data.split.method to Stratified"),
}


@pytest.mark.parametrize(("places", "data", "words"), FEW.values(), ids=FEW.keys())
def test_a_class_that_a_fold_does_not_train_on_is_told_before_any_fold_has_trained(job, places, data, words):
    config = job(of_classes(places), family="LogisticRegression", data=data, evaluation={"crossValidation": {"folds": 3}})
    with pytest.raises(DataInvalid, match=words):
        next(folds(config, clean(config), 3))


class LostError(Exception):
    pass


def test_another_attempt_goes_on_with_the_fold_that_was_interrupted(job, monkeypatch):
    config = job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE)
    undisturbed = run(config.model_copy(update={"output": Location(uri=config.output.uri + "-whole")}))
    trained, train = [], numpy_engine.train

    def counted(plan, dataset, *arguments):
        if len(trained) == 3:
            trained.append("lost")
            raise LostError
        trained.append(dataset.training.rows)
        return train(plan, dataset, *arguments)

    monkeypatch.setattr(numpy_engine, "train", counted)
    with pytest.raises(LostError):
        run(config)
    result = run(config.model_copy(update={"attempt": 2}))
    assert len(trained) == 4 + 3, "two folds and the model itself were left"
    assert result.metrics == undisturbed.metrics
    assert result.model.digest == undisturbed.model.digest


def test_a_fold_that_is_measured_leaves_no_checkpoint_in_the_store(job, monkeypatch):
    config = job(ROWS, family="LogisticRegression", training=TRAINING | {"checkpoint": {"everyEpochs": 1}}, evaluation=FIVE)
    left, train = [], numpy_engine.train

    def looking(*arguments):
        left.append([path for path in Store(config.checkpoints).find_below() if "checkpoint-" in path])
        return train(*arguments)

    monkeypatch.setattr(numpy_engine, "train", looking)
    run(config)
    assert left == [[]] * 6


def test_progress_tells_which_training_runs_and_never_goes_back(job):
    told = []

    class Listener(Reporter):
        def progress(self, report):
            told.append(report)

        def due(self, stage):
            return True

    run(job(ROWS, family="LogisticRegression", training=TRAINING, evaluation=FIVE), Listener(None))
    assert sorted({report.fold for report in told if report.epoch and report.stage == "Training"}) == [1, 2, 3, 4, 5, 6]
    assert {report.folds for report in told if report.fold} == {6}
    assert [report.percent for report in told] == sorted(report.percent for report in told)
