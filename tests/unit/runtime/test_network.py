"""Gradients by hand against finite differences; first parameters against the published variances."""

import numpy as np
import pytest

from eagleray_runtime.contract.blocks import Activation, Initialization, InitializationMethod, LossType
from eagleray_runtime.models import initialization
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.heads import class_numbers, log_probabilities
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.losses import Loss, balanced, log_softmax
from eagleray_runtime.models.network import Network, activate
from tests.support.architectures import EVERY_CASE, case

HE = Initialization(method=InitializationMethod.HE_NORMAL)


@pytest.mark.parametrize("arguments", EVERY_CASE, ids=str)
def test_the_gradient_is_the_slope_that_finite_differences_measure(arguments):
    made = case(*arguments)
    network, gradient = made.network, Network(made.network.architecture)

    def loss():
        return made.loss.mean(network.forward(made.x), made.y)[0]

    assert network.gradient(made.loss, made.x, made.y, gradient) == pytest.approx(loss(), rel=1e-12)
    step = 1e-6
    for index in range(len(network.flat)):
        kept = network.flat[index]
        network.flat[index] = kept + step
        above = loss()
        network.flat[index] = kept - step
        below = loss()
        network.flat[index] = kept
        assert gradient.flat[index] == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_the_squared_error_carries_the_half():
    loss, _ = Loss(type=LossType.MEAN_SQUARED_ERROR).mean(np.zeros((2, 1)), np.array([2.0, 4.0]))
    assert loss == (4 + 16) / 4


def test_huber_is_the_squared_error_of_small_errors_and_linear_beyond():
    loss = Loss(type=LossType.HUBER, delta=2.0)
    assert loss.mean(np.array([[1.0]]), np.zeros(1))[0] == 0.5
    assert loss.mean(np.array([[7.0]]), np.zeros(1))[0] == 2.0 * (7.0 - 1.0)


@pytest.mark.parametrize(
    ("type_", "unit"),
    [(LossType.MEAN_SQUARED_ERROR, 9.0), (LossType.HUBER, 9.0), (LossType.MEAN_ABSOLUTE_ERROR, 3.0)],
)
def test_a_loss_of_scaled_targets_is_told_in_their_own_unit(type_, unit):
    assert Loss(type=type_).unit(3.0) == unit


def test_cross_entropy_of_equal_outputs_is_the_logarithm_of_the_number_of_classes():
    loss, _ = Loss(type=LossType.CROSS_ENTROPY).mean(np.zeros((3, 5)), np.array([0, 1, 4]))
    assert loss == pytest.approx(np.log(5))


def test_balanced_weights_let_each_class_count_as_much_as_the_others():
    y = np.array([0] * 6 + [1] * 2)
    weights = np.array(balanced(np.bincount(y, minlength=2)))
    assert (np.bincount(y) * weights).tolist() == pytest.approx([4.0, 4.0])


def test_one_output_for_two_classes_means_the_same_as_two_outputs_that_differ_by_it():
    z = np.array([[-3.0], [0.5], [800.0]])
    two = np.concatenate([np.zeros_like(z), z], axis=1)
    assert log_probabilities("Sigmoid", z) == pytest.approx(log_probabilities("Softmax", two))
    assert class_numbers("Sigmoid", z).tolist() == class_numbers("Softmax", two).tolist() == [0, 1, 1]


def test_huge_outputs_do_not_overflow():
    logarithms = log_softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    assert logarithms[0].tolist() == [0.0, -1000.0]
    assert np.exp(logarithms[1]).tolist() == pytest.approx([0.5, 0.5])
    assert activate(Activation.SIGMOID, np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    loss, delta = Loss(type=LossType.BINARY_CROSS_ENTROPY).mean(np.array([[-1e4], [1e4]]), np.array([1, 1]))
    assert loss == pytest.approx(5000)
    assert delta[:, 0].tolist() == [-0.5, 0.0]


def test_dropped_units_leave_the_mean_output_as_it_is():
    architecture = Dense(inputs=3, hidden=[2000], outputs=1, dropout=0.4, head="Identity")
    network = Network(architecture, initial_parameters(architecture, HE, 0))
    gradient = Network(architecture)
    x, loss = np.ones((1, 3)), Loss(type=LossType.MEAN_ABSOLUTE_ERROR)
    # The loss is the output less a target far below it.
    random = np.random.default_rng(0)
    seen = [network.gradient(loss, x, np.array([-100.0]), gradient, random) - 100.0 for _ in range(300)]
    whole = network.gradient(loss, x, np.array([-100.0]), gradient) - 100.0
    assert np.std(seen) > 0
    assert np.mean(seen) == pytest.approx(whole, abs=4 * np.std(seen) / np.sqrt(300))
    hidden_bias = gradient.parameters["layers.0.bias"]
    network.gradient(loss, x, np.array([-100.0]), gradient, random)
    active = network.parameters["layers.0.weight"].sum(axis=1) > 0
    assert np.mean(hidden_bias[active] == 0) == pytest.approx(0.4, abs=0.05)


def test_initial_parameters_depend_on_the_seed_alone():
    architecture = Dense(inputs=3, hidden=[5, 4], outputs=4, head="Softmax")
    first, again, other = (initial_parameters(architecture, HE, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["layers.0.weight"], other["layers.0.weight"])


INPUTS, OUTPUTS = 400, 300
DEVIATIONS = {
    InitializationMethod.ZEROS: 0.0,
    InitializationMethod.NORMAL: 0.01,
    InitializationMethod.UNIFORM: 0.05 / np.sqrt(3),
    InitializationMethod.XAVIER_NORMAL: np.sqrt(2 / (INPUTS + OUTPUTS)),
    InitializationMethod.XAVIER_UNIFORM: np.sqrt(2 / (INPUTS + OUTPUTS)),
    InitializationMethod.HE_NORMAL: np.sqrt(2 / INPUTS),
    InitializationMethod.HE_UNIFORM: np.sqrt(2 / INPUTS),
    InitializationMethod.ORTHOGONAL: np.sqrt(1 / INPUTS),
}


@pytest.mark.parametrize("method", DEVIATIONS)
@pytest.mark.parametrize("scale", [None, 2.0])
def test_initial_weights_have_the_deviation_of_their_method(method, scale):
    architecture = Dense(inputs=INPUTS, hidden=[OUTPUTS], outputs=1, head="Identity")
    weight = initial_parameters(architecture, Initialization(method=method, scale=scale), 0)["layers.0.weight"]
    unset = {InitializationMethod.NORMAL: 0.01, InitializationMethod.UNIFORM: 0.05}.get(method, 1.0)
    expected = DEVIATIONS[method] * (1.0 if scale is None else scale / unset)
    assert weight.mean() == pytest.approx(0, abs=0.02 * expected + 1e-12)
    assert weight.std() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(shape):
    outputs, inputs = shape
    architecture = Dense(inputs=inputs, outputs=outputs, head="Softmax")
    method = Initialization(method=InitializationMethod.ORTHOGONAL)
    weight = initial_parameters(architecture, method, 0)["layers.0.weight"]
    square = weight @ weight.T if outputs <= inputs else weight.T @ weight
    assert square == pytest.approx(np.eye(min(shape)), abs=1e-12)


@pytest.mark.parametrize(
    ("hidden", "activation", "method"),
    [
        ([], Activation.RELU, InitializationMethod.ZEROS),
        ([4], Activation.RELU, InitializationMethod.HE_NORMAL),
        ([4], Activation.GELU, InitializationMethod.HE_NORMAL),
        ([4], Activation.TANH, InitializationMethod.XAVIER_UNIFORM),
        ([4], Activation.SIGMOID, InitializationMethod.XAVIER_UNIFORM),
    ],
)
def test_the_method_that_is_left_open_follows_the_activation(hidden, activation, method):
    architecture = Dense(inputs=3, hidden=hidden, outputs=1, activation=activation, head="Identity")
    chosen, reason = initialization.decide(architecture)
    assert chosen is method
    assert reason


def test_a_network_refuses_parameters_of_another_shape():
    architecture = Dense(inputs=3, outputs=1, head="Identity")
    with pytest.raises(ValueError, match=r"layers\.0\.bias has the shape"):
        Network(architecture, {"layers.0.weight": np.zeros((1, 3)), "layers.0.bias": np.zeros(2)})
