"""The NumPy engine against torch: the same gradients, steps and answers."""

import numpy as np
import pytest

from eagleray_runtime.contract.blocks import Activation, OptimizerType
from eagleray_runtime.models.architecture import Architecture
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.network import Network
from eagleray_runtime.training.optimizers import make

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

ARCHITECTURES = [
    Architecture(inputs=3, outputs=1, head="Identity"),
    Architecture(inputs=3, outputs=4, head="Softmax"),
    *(
        Architecture(inputs=3, hidden=[6, 5], outputs=outputs, activation=activation, head=head)
        for activation in Activation
        for outputs, head in ((1, "Identity"), (4, "Softmax"))
    ),
]


def both(architecture):
    """The same parameters in both libraries, and rows with targets."""
    from eagleray_runtime.models.torch_network import TorchNetwork

    random = np.random.default_rng(2)
    ours = Network(architecture)
    ours.flat[...] = random.normal(size=ours.flat.shape)
    theirs = TorchNetwork(architecture, torch.float64)
    theirs.set_parameters(ours.parameters)
    x = random.normal(size=(9, 3))
    y = random.integers(0, 4, 9) if architecture.head == "Softmax" else random.normal(size=9)
    return ours, theirs, x, y


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.head} {a.hidden} {a.activation}")
def test_gradients_by_hand_are_those_of_autograd(architecture):
    from eagleray_runtime.models.torch_network import total_loss

    ours, theirs, x, y = both(architecture)
    gradient = Network(architecture)

    loss = ours.gradient(x, y, gradient)
    expected = total_loss(architecture.head, theirs(torch.from_numpy(x)), torch.from_numpy(y)) / len(y)
    expected.backward()

    assert loss == pytest.approx(expected.item(), abs=1e-12)
    for name, values in theirs.named_parameters():
        assert gradient.parameters[name] == pytest.approx(values.grad.numpy(), abs=1e-6)


@pytest.mark.parametrize("type_", [OptimizerType.SGD, OptimizerType.ADAM])
def test_optimisers_step_as_torchs_do(type_):
    random = np.random.default_rng(0)
    theta = random.normal(size=20)
    theirs = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = make(type_, 0.01, 20)
    reference = torch.optim.Adam([theirs], lr=0.01) if type_ is OptimizerType.ADAM else torch.optim.SGD([theirs], lr=0.01)
    for _ in range(25):
        gradient = random.normal(size=20)
        theirs.grad = torch.from_numpy(gradient.copy())
        reference.step()
        optimizer.step(theta, gradient)
    assert theta == pytest.approx(theirs.detach().numpy(), abs=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES[:4], ids=lambda a: f"{a.head} {a.hidden}")
def test_both_engines_serve_the_same_weights_alike(architecture):
    from eagleray_runtime.serving.numpy_predictor import NumpyPredictor
    from eagleray_runtime.serving.torch_predictor import TorchPredictor

    parameters = initial_parameters(architecture, 5)
    x = np.random.default_rng(1).normal(size=(6, 3))
    expected = NumpyPredictor(architecture, parameters)(x)
    assert TorchPredictor(architecture, parameters)(x) == pytest.approx(expected, abs=1e-5)


def test_a_torch_checkpoint_restores_network_and_optimiser(tmp_path):
    from eagleray_runtime.models.torch_network import total_loss
    from eagleray_runtime.training.plan import Plan
    from eagleray_runtime.training.torch_engine import Run

    plan = Plan(
        architecture=ARCHITECTURES[2],
        optimizer=OptimizerType.ADAM,
        learning_rate=0.01,
        batch_rows=4,
        epochs=9,
        seed=1,
        unit=1.0,
        fingerprint="f",
    )
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(8)

    def step(run):
        run.optimizer.zero_grad()
        total_loss("Identity", run.network(x), y).backward()
        run.optimizer.step()
        run.epoch += 1

    whole = Run(plan, torch.device("cpu"), 0, 1)
    step(whole)
    whole.save(tmp_path)
    resumed = Run(plan, torch.device("cpu"), 0, 1)
    resumed.restore(tmp_path)
    assert resumed.epoch == 1
    step(whole)
    step(resumed)
    for name, values in whole.network.state_dict().items():
        assert torch.equal(values, resumed.network.state_dict()[name])

    other = Run(plan.model_copy(update={"fingerprint": "other"}), torch.device("cpu"), 0, 1)
    other.restore(tmp_path)
    assert other.epoch == 0
