"""What an epoch came to, judged: whether training goes on, ends, or comes to nothing; the same for both engines."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from eagleray_runtime.contract.reports import HistoryPoint
from eagleray_runtime.data.loading import load
from eagleray_runtime.errors import Diverged, ModelInvalid
from eagleray_runtime.reports import Reporter
from eagleray_runtime.training import driver, metrics
from eagleray_runtime.training.course import Course
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.progress import Progress

LINE = ["x,y", *(f"{x},{3 * x + 2}" for x in range(10))]
RARE = ["x,y", *(f"{x},{'rare' if x < 4 else 'often'}" for x in range(80))]


@pytest.fixture
def course(job):
    def make(**training):
        config = job(training=training)
        return Course(decide(config, load(config))[0])

    return make


@pytest.mark.parametrize(
    ("rows", "family", "metric", "needs"),
    [
        (RARE, "LogisticRegression", "ROCAUC", "rows of every class"),
        (RARE, "LogisticRegression", "AveragePrecision", "rows of every class"),
        (LINE, "LinearRegression", "R2", "two different targets"),
    ],
)
def test_an_early_end_by_what_the_validation_part_does_not_define_is_refused_instead_of_waited_for(
    job, rows, family, metric, needs
):
    config = job(rows, family=family, training={"earlyStopping": {"metric": metric}})
    with pytest.raises(ModelInvalid) as refused:
        driver.run(config, Progress(config, Reporter(None)))
    assert refused.value.message == (
        f"training.earlyStopping.metric {metric} is not defined on the validation part, for it needs {needs} there: set it to "
        "Loss, or raise data.split.validationPercent"
    )


def test_what_is_not_defined_any_more_is_no_improvement(course):
    made = course(earlyStopping={"metric": "R2", "patienceEpochs": 2})
    assert [made.end_epoch(1.0, 1.0, value) for value in (0.5, 0.7, math.nan)] == [True, True, False]
    assert not made.is_over
    assert not made.end_epoch(1.0, 1.0, math.nan)
    assert made.is_over
    assert "the model is that of epoch 2" in made.chosen[0].reason


def test_every_metric_that_may_be_undefined_says_what_it_needs():
    assert set(metrics.NEEDS) <= {*metrics.REGRESSION, *metrics.CLASSIFICATION}


def test_a_loss_that_is_no_number_ends_the_training(course):
    made = course(optimizer={"type": "SGD", "learningRate": 0.5})
    made.end_epoch(1.0, 1.0, None)
    with pytest.raises(Diverged, match=r"the loss became nan in epoch 2: set training\.optimizer\.learningRate below 0\.5"):
        made.end_epoch(math.nan, 1.0, None)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_validation_loss_that_is_no_number_ends_the_training_and_is_told_as_such(course, value):
    with pytest.raises(Diverged) as ended:
        course().end_epoch(0.25, value, None)
    told = f"the loss of the validation part became {value} in epoch 1, that of the training part 0.25: look for wild values"
    assert ended.value.message.startswith(told)


def wild(part):
    """Rows in their order, of which one of a part is far from all others."""
    values = np.arange(50.0)
    values[{"training": 7, "validation": 42}[part]] = 1e200
    return ["x,y", *(f"{value},{row}" for row, value in enumerate(values))]


def test_a_wild_value_among_the_rows_to_validate_on_comes_into_no_file(job, tmp_path):
    config = job(wild("validation"), data={"split": {"method": "Chronological"}})
    with pytest.raises(Diverged, match="the loss of the validation part became inf in epoch 1"):
        driver.run(config, Progress(config, Reporter(None)))
    assert not (tmp_path / "model").exists()


def test_numbers_too_large_to_be_computed_with_are_told_as_those_of_the_data(job, capsys):
    config = job(wild("training"), data={"split": {"method": "Chronological"}})
    with np.errstate(over="ignore"):
        assert driver.attempt(config) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("DataInvalid: numbers of the rows are too large to be computed with (Affine.scale became inf)")


def test_no_block_holds_a_number_that_json_does_not_have():
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValidationError, match="finite"):
            HistoryPoint(epoch=1, training=value)
        with pytest.raises(ValidationError, match="finite"):
            HistoryPoint.model_validate_json(json.dumps({"epoch": 1, "training": value}))


def test_a_loss_that_explodes_ends_the_training_though_it_is_finite_still(job, tmp_path):
    config = job(training={"optimizer": {"type": "SGD", "learningRate": 5}})
    with pytest.raises(Diverged, match=r"the loss grew from [\d.e+]+ in the first epoch to [\d.e+]+ in epoch \d+: set"):
        driver.run(config, Progress(config, Reporter(None)))
    assert not (tmp_path / "model").exists()


def test_a_loss_that_was_large_from_the_beginning_or_comes_from_nothing_has_not_exploded(course):
    large, small = course(), course()
    unit = large.plan.unit
    for loss in (1e12, 1e17, 3.0):
        large.end_epoch(loss * unit, None, None)
    for loss in (1e-30, 1e-3, 1e5):
        small.end_epoch(loss * unit, None, None)
    with pytest.raises(Diverged):
        small.end_epoch(1.1e6 * unit, None, None)


def test_what_exploded_in_the_first_epoch_is_found_in_those_after_it(course):
    made = course()
    made.end_epoch(1e20, None, None)
    with pytest.raises(Diverged, match=r"the loss grew from 1e\+20 in the first epoch to 1e\+30 in epoch 2"):
        made.end_epoch(1e30, None, None)
