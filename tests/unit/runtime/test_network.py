"""Gradients by hand against finite differences; optimisers against closed forms."""

import numpy as np
import pytest

from eagleray_runtime.contract.blocks import Activation, OptimizerType
from eagleray_runtime.models.architecture import Architecture
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.network import Network, activate, log_softmax
from eagleray_runtime.training.optimizers import make

ARCHITECTURES = {
    "linear regression": Architecture(inputs=3, outputs=1, head="Identity"),
    "logistic regression": Architecture(inputs=3, outputs=4, head="Softmax"),
    "ReLU perceptron": Architecture(inputs=3, hidden=[5, 4], outputs=4, activation=Activation.RELU, head="Softmax"),
    "tanh perceptron": Architecture(inputs=3, hidden=[5], outputs=1, activation=Activation.TANH, head="Identity"),
    "sigmoid perceptron": Architecture(inputs=3, hidden=[5], outputs=4, activation=Activation.SIGMOID, head="Softmax"),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_the_gradient_is_the_slope_that_finite_differences_measure(architecture):
    random = np.random.default_rng(1)
    network, gradient = Network(architecture), Network(architecture)
    network.flat[...] = random.normal(size=network.flat.shape)
    x = random.normal(size=(7, 3))
    y = random.integers(0, 4, 7) if architecture.head == "Softmax" else random.normal(size=7)

    loss = network.gradient(x, y, gradient)

    assert loss == pytest.approx(network.loss(x, y), rel=1e-12)
    step = 1e-6
    for index in range(len(network.flat)):
        kept = network.flat[index]
        network.flat[index] = kept + step
        above = network.loss(x, y)
        network.flat[index] = kept - step
        below = network.loss(x, y)
        network.flat[index] = kept
        assert gradient.flat[index] == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_the_squared_error_carries_the_half():
    network = Network(Architecture(inputs=1, outputs=1, head="Identity"))
    assert network.loss(np.array([[1.0], [2.0]]), np.array([2.0, 4.0])) == (4 + 16) / 4


def test_cross_entropy_of_equal_outputs_is_the_logarithm_of_the_number_of_classes():
    network = Network(Architecture(inputs=1, outputs=5, head="Softmax"))
    assert network.loss(np.zeros((3, 1)), np.array([0, 1, 4])) == pytest.approx(np.log(5))


def test_huge_outputs_do_not_overflow():
    logarithms = log_softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    assert logarithms[0].tolist() == [0.0, -1000.0]
    assert np.exp(logarithms[1]).tolist() == pytest.approx([0.5, 0.5])
    assert activate(Activation.SIGMOID, np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_initial_parameters_depend_on_the_seed_alone():
    architecture = ARCHITECTURES["ReLU perceptron"]
    first, again, other = (initial_parameters(architecture, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize(
    ("activation", "deviation"), [(Activation.RELU, np.sqrt(2 / 400)), (Activation.TANH, np.sqrt(2 / (400 + 300)))]
)
def test_initial_weights_have_the_deviation_of_their_method(activation, deviation):
    architecture = Architecture(inputs=400, hidden=[300], outputs=1, activation=activation, head="Identity")
    weight = initial_parameters(architecture, 0)["layers.0.weight"]
    assert weight.std() == pytest.approx(deviation, rel=0.02)


def test_a_network_refuses_parameters_of_another_shape():
    architecture = ARCHITECTURES["linear regression"]
    with pytest.raises(ValueError, match=r"layers\.0\.bias has the shape"):
        Network(architecture, {"layers.0.weight": np.zeros((1, 3)), "layers.0.bias": np.zeros(2)})


def test_gradient_descent_contracts_a_parabola_as_its_closed_form_says():
    optimizer = make(OptimizerType.GRADIENT_DESCENT, 0.1, 1)
    theta = np.array([1.0])
    for _ in range(10):
        optimizer.step(theta, 3.0 * theta)
    assert theta[0] == pytest.approx((1 - 0.1 * 3.0) ** 10)


def test_adam_moves_by_the_learning_rate_under_a_constant_gradient():
    # With a constant gradient both corrected moments equal it, so each step is alpha * g / (|g| + eps).
    optimizer = make(OptimizerType.ADAM, 0.01, 2)
    theta = np.zeros(2)
    for _ in range(5):
        optimizer.step(theta, np.array([4.0, -0.5]))
    assert theta == pytest.approx([-0.05, 0.05], rel=1e-6)


def test_adam_follows_the_published_algorithm_on_changing_gradients():
    random = np.random.default_rng(0)
    optimizer = make(OptimizerType.ADAM, 0.002, 3)
    theta, expected = np.ones(3), np.ones(3)
    m, v = np.zeros(3), np.zeros(3)
    for t in range(1, 30):
        g = random.normal(size=3)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        expected = expected - 0.002 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        optimizer.step(theta, g.copy())
    assert theta == pytest.approx(expected, rel=1e-12)
