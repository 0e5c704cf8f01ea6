"""Metrics against scikit-learn, and intervals against what they promise."""

import numpy as np
import pytest
from sklearn import metrics as reference

from eagleray_runtime.contract.blocks import Scaling
from eagleray_runtime.data.scaling import Affine, fitted
from eagleray_runtime.models.losses import log_softmax
from eagleray_runtime.training import metrics
from eagleray_runtime.training.evaluation import intervals
from eagleray_runtime.training.metrics import Classes, Numbers


def of_classes(classes, rows=200, seed=0):
    random = np.random.default_rng(seed)
    outputs = random.normal(size=(rows, classes))
    right = random.integers(0, classes, rows)
    outputs[np.arange(rows), right] += 1.0
    # Ties, as a model of few parameters gives them.
    return metrics.answers("Softmax", Affine(), np.round(outputs), right)


def one_against_all_others(score, of):
    return np.mean([score(of.right == number, of.scores[:, number]) for number in range(of.scores.shape[1])])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_of_two_classes_are_those_of_the_second(seed):
    of = of_classes(2, seed=seed)
    score = of.scores[:, 1] - of.scores[:, 0]
    expected = {
        "Accuracy": reference.accuracy_score(of.right, of.answered),
        "BalancedAccuracy": reference.balanced_accuracy_score(of.right, of.answered),
        "Precision": reference.precision_score(of.right, of.answered),
        "Recall": reference.recall_score(of.right, of.answered),
        "F1": reference.f1_score(of.right, of.answered),
        "ROCAUC": reference.roc_auc_score(of.right, score),
        "AveragePrecision": reference.average_precision_score(of.right, score),
        "LogLoss": reference.log_loss(of.right, np.exp(of.scores)),
    }
    assert list(expected) == metrics.names("Softmax")
    for name, value in expected.items():
        assert metrics.value(name, of) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_of_more_classes_are_the_mean_over_them(seed):
    of = of_classes(4, seed=seed)
    expected = {
        "Accuracy": reference.accuracy_score(of.right, of.answered),
        "BalancedAccuracy": reference.balanced_accuracy_score(of.right, of.answered),
        "Precision": reference.precision_score(of.right, of.answered, average="macro"),
        "Recall": reference.recall_score(of.right, of.answered, average="macro"),
        "F1": reference.f1_score(of.right, of.answered, average="macro"),
        "ROCAUC": one_against_all_others(reference.roc_auc_score, of),
        "AveragePrecision": one_against_all_others(reference.average_precision_score, of),
        "LogLoss": reference.log_loss(of.right, np.exp(of.scores)),
    }
    for name, value in expected.items():
        assert metrics.value(name, of) == pytest.approx(value, abs=1e-12), name


def test_metrics_of_numbers_are_in_their_own_unit():
    random = np.random.default_rng(0)
    scaled, outputs = random.normal(size=50), random.normal(size=(50, 1))
    of = metrics.answers("Identity", Affine(offset=100.0, scale=5.0), outputs, scaled)
    right, answered = 100 + 5 * scaled, 100 + 5 * outputs[:, 0]
    expected = {
        "MSE": reference.mean_squared_error(right, answered),
        "RMSE": reference.root_mean_squared_error(right, answered),
        "MAE": reference.mean_absolute_error(right, answered),
        "MAPE": reference.mean_absolute_percentage_error(right, answered),
        "R2": reference.r2_score(right, answered),
    }
    assert list(expected) == metrics.names("Identity")
    for name, value in expected.items():
        assert metrics.value(name, of) == pytest.approx(value), name


UNDEFINED = {
    "R2 of a target that never changes": ("R2", Numbers(np.ones(5), np.arange(5.0))),
    "R2 of one whose mean is rounded": ("R2", Numbers(np.full(3, 0.1), np.arange(3.0))),
    "a share of a right answer of zero": ("MAPE", Numbers(np.array([0.0, 1.0]), np.ones(2))),
    "pairs of one class alone": ("ROCAUC", Classes(np.zeros(5, int), np.zeros(5, int), log_softmax(np.ones((5, 2))))),
}


@pytest.mark.parametrize("what", UNDEFINED)
def test_what_is_not_defined_is_not_a_number(what):
    name, of = UNDEFINED[what]
    assert np.isnan(metrics.value(name, of))
    assert intervals(of, [name], 95, np.random.default_rng(0)) == {} or name == "MAPE"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scaling", ["Standard", "MinMax"])
def test_a_target_of_zero_is_zero_again_whatever_scaled_it(scaling, dtype):
    values = np.random.default_rng(0).normal(300.0, 7.0, (500, 20))
    values[:, 0] = 0.0
    for row in values:
        scaled = fitted(row, Scaling(scaling))
        y = ((row - scaled.offset) / scaled.scale).astype(dtype)
        of = metrics.answers("Identity", scaled, np.zeros((20, 1)), y)
        assert np.isnan(metrics.value("MAPE", of))
        assert of.right == pytest.approx(row, rel=1e-5)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    # The share of right answers is 0.8; the rows of each of 200 test parts are drawn anew.
    random = np.random.default_rng(0)
    held = []
    for _ in range(200):
        right = np.ones(100, int)
        answered = (random.random(100) < 0.8).astype(int)
        of = Classes(right, answered, np.zeros((100, 2)))
        low, high = intervals(of, ["Accuracy"], 80, random)["Accuracy"]
        held.append(low <= 0.8 <= high)
    assert np.mean(held) == pytest.approx(0.8, abs=0.08)


def test_more_confidence_makes_a_wider_interval_around_the_value():
    of = of_classes(3)
    [narrow], [wide] = (intervals(of, ["F1"], percent, np.random.default_rng(0)).values() for percent in (50, 99))
    assert wide[0] < narrow[0] < metrics.value("F1", of) < narrow[1] < wide[1]
