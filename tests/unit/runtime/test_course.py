"""What an epoch came to, judged: whether training goes on, ends, or comes to nothing; the same for both engines."""

import math

import pytest

from eagleray_runtime.data.loading import load
from eagleray_runtime.errors import ModelInvalid
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
