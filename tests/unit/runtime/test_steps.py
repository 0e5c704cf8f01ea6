"""Optimisers against closed forms, schedules and patience against what they promise."""

import math

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Gradients, OptimizerType, ScheduleType
from eagleray_runtime.training import schedule
from eagleray_runtime.training.numpy_engine import clip
from eagleray_runtime.training.optimizers import Rule, make
from eagleray_runtime.training.patience import Patience, Watched


def optimizer(type_, parameters, **values):
    return make(Rule(type=type_, learning_rate=0.1, **values), parameters)


def test_gradient_descent_contracts_a_parabola_as_its_closed_form_says():
    descent = optimizer(OptimizerType.GRADIENT_DESCENT, 1)
    theta = np.array([1.0])
    for _ in range(10):
        descent.step(theta, 3.0 * theta, 0.1)
    assert theta[0] == pytest.approx((1 - 0.1 * 3.0) ** 10)


def test_momentum_gathers_speed_under_a_constant_gradient():
    # v = 1 + mu + ... + mu^(t-1) in step t.
    descent = optimizer(OptimizerType.SGD, 1, momentum=0.5)
    theta = np.zeros(1)
    for _ in range(3):
        descent.step(theta, np.ones(1), 0.1)
    assert theta[0] == pytest.approx(-0.1 * (1 + 1.5 + 1.75))


def test_adam_moves_by_the_learning_rate_under_a_constant_gradient():
    # With a constant gradient both corrected moments equal it, so each step is alpha * g / (|g| + eps).
    adam = optimizer(OptimizerType.ADAM, 2)
    theta = np.zeros(2)
    for _ in range(5):
        adam.step(theta, np.array([4.0, -0.5]), 0.01)
    assert theta == pytest.approx([-0.05, 0.05], rel=1e-6)


def test_adam_follows_the_published_algorithm_on_changing_gradients():
    random = np.random.default_rng(0)
    adam = optimizer(OptimizerType.ADAM, 3)
    theta, expected = np.ones(3), np.ones(3)
    m, v = np.zeros(3), np.zeros(3)
    for t in range(1, 30):
        g = random.normal(size=3)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        expected = expected - 0.002 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        adam.step(theta, g.copy(), 0.002)
    assert theta == pytest.approx(expected, rel=1e-12)


def test_adam_w_takes_the_decay_off_the_parameter_whatever_the_gradient_is():
    adam_w = optimizer(OptimizerType.ADAM_W, 1, weight_decay=0.1)
    theta = np.array([2.0])
    adam_w.step(theta, np.zeros(1), 0.5)
    assert theta[0] == pytest.approx(2.0 * (1 - 0.5 * 0.1))


@pytest.mark.parametrize("type_", [type_ for type_ in OptimizerType if type_ is not OptimizerType.AUTO])
def test_an_optimiser_goes_on_from_its_state_as_if_it_had_not_been_interrupted(type_):
    momentum = {"momentum": 0.9} if type_ in (OptimizerType.SGD, OptimizerType.RMS_PROP) else {}
    random = np.random.default_rng(0)
    whole, first, second = (optimizer(type_, 4, **momentum) for _ in range(3))
    theta, other = np.ones(4), np.ones(4)
    for step in range(10):
        gradient = random.normal(size=4)
        whole.step(theta, gradient.copy(), 0.1)
        if step == 5:
            second.restore({name: values.copy() for name, values in first.state().items()})
        (first if step < 5 else second).step(other, gradient.copy(), 0.1)
    assert other.tolist() == theta.tolist()


def rates(type_, epochs=10, steps_per_epoch=10, **spec):
    told = schedule.decide(blocks.Schedule.model_validate({"type": type_} | spec), steps_per_epoch, epochs)
    return [told.share(step) for step in range(steps_per_epoch * epochs)]


def test_a_constant_rate_stays():
    assert set(rates("Constant")) == {1.0}


def test_steps_and_decay_multiply_by_the_factor():
    assert [rates("Step", everyEpochs=4, factor=0.5)[step] for step in (0, 39, 40, 80)] == [1, 1, 0.5, 0.25]
    assert rates("Exponential", factor=0.5)[35] == 0.5**3


@pytest.mark.parametrize("type_", ["Linear", "Cosine"])
def test_a_rate_that_goes_to_zero_is_half_in_the_middle(type_):
    found = rates(type_)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert 0 < found[-1] < 0.02
    assert found == sorted(found, reverse=True)


def test_one_cycle_rises_for_three_tenths_and_ends_near_zero():
    found = rates("OneCycle")
    assert found[0] == pytest.approx(1 / 25)
    assert int(np.argmax(found)) == 29
    assert found[29] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(1 / 25e4)


@pytest.mark.parametrize("type_", ["Constant", "Cosine"])
def test_a_warm_up_rises_linearly_and_the_schedule_follows_it(type_):
    found = rates(type_, warmupPercent=20)
    assert np.diff(found[:21]) == pytest.approx([1 / 21] * 20)
    assert found[20] == 1.0


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("type_", list(ScheduleType))
def test_the_shortest_run_has_rates_too(type_, epochs):
    assert all(0 < share <= 1 for share in rates(type_, epochs, 1))


def test_a_gradient_is_cut_off_and_then_shortened():
    flat = np.array([3.0, -40.0])
    clip(Gradients(clipValue=4.0, clipNorm=1.0), flat)
    assert flat.tolist() == pytest.approx([0.6, -0.8])
    small = np.array([0.3, 0.4])
    clip(Gradients(clipNorm=1.0), small)
    assert small.tolist() == [0.3, 0.4]


def seen(patience, values):
    watched, improved = Watched(), []
    for epoch, value in enumerate(values, 1):
        improved.append(watched.saw(patience, epoch, value))
    return watched, improved


def test_waiting_ends_after_so_many_epochs_without_an_improvement():
    watched, improved = seen(Patience(epochs=2), [3.0, 2.0, 2.0, 2.5])
    assert improved == [True, True, False, False]
    assert (watched.best, watched.epoch) == (2.0, 2)
    assert watched.is_over(Patience(epochs=2))
    assert not watched.is_over(Patience(epochs=3))


def test_too_small_an_improvement_is_none():
    _, improved = seen(Patience(epochs=9, min_delta=0.5), [3.0, 2.6, 2.4])
    assert improved == [True, False, True]


def test_of_some_metrics_the_larger_is_the_better():
    watched, _ = seen(Patience(epochs=9, larger_is_better=True), [0.5, 0.9, 0.7])
    assert watched.best == 0.9


def test_what_is_not_finite_is_no_improvement():
    watched, improved = seen(Patience(epochs=9), [math.nan, 1.0, -math.inf])
    assert improved == [False, True, False]
    assert watched.best == 1.0
    assert Watched(**Watched().told()).saw(Patience(epochs=1), 1, 5.0)
