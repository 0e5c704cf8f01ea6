"""The NumPy engine against torch: the same gradients, steps, rates and answers."""

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import (
    Gradients,
    Initialization,
    InitializationMethod,
    LossType,
    OptimizerType,
    ScheduleType,
)
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.losses import Loss
from eagleray_runtime.models.network import Network
from eagleray_runtime.training import schedule
from eagleray_runtime.training.numpy_engine import clip
from eagleray_runtime.training.optimizers import Rule, make
from eagleray_runtime.training.patience import Patience, Watched
from eagleray_runtime.training.plan import Plan
from tests.support.architectures import EVERY_CASE, case

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

METHODS = [method for method in InitializationMethod if method is not InitializationMethod.AUTO]


def assert_the_gradients_are_those_of_autograd(made):
    from eagleray_runtime.models.torch_losses import total_loss
    from eagleray_runtime.models.torch_network import torch_network

    theirs = torch_network(made.network.architecture, torch.float64)
    theirs.set_parameters(made.network.parameters)
    gradient = Network(made.network.architecture)

    loss = made.network.gradient(made.loss, made.x, made.y, gradient)
    expected = total_loss(made.loss, theirs(torch.from_numpy(made.x)), torch.from_numpy(made.y)) / len(made.y)
    expected.backward()

    assert loss == pytest.approx(expected.item(), abs=1e-12)
    for name, values in theirs.named_parameters():
        assert gradient.parameters[name] == pytest.approx(values.grad.numpy(), abs=1e-6)


@pytest.mark.parametrize("arguments", EVERY_CASE, ids=str)
def test_gradients_by_hand_are_those_of_autograd(arguments):
    assert_the_gradients_are_those_of_autograd(case(*arguments))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["squares", "cross-entropy", "binary cross-entropy"])
def test_they_are_at_the_start_too_however_it_was_drawn(loss, method):
    made = case(loss, (6, 5))
    architecture = made.network.architecture
    made.network = Network(architecture, initial_parameters(architecture, Initialization(method=method), 1))
    assert_the_gradients_are_those_of_autograd(made)


RULES = {
    "GradientDescent": Rule(type=OptimizerType.GRADIENT_DESCENT, learning_rate=0.01),
    "SGD": Rule(type=OptimizerType.SGD, learning_rate=0.01),
    "SGD with decay": Rule(type=OptimizerType.SGD, learning_rate=0.01, weight_decay=0.1),
    "momentum": Rule(type=OptimizerType.SGD, learning_rate=0.01, momentum=0.9, weight_decay=0.1),
    "Nesterov": Rule(type=OptimizerType.SGD, learning_rate=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": Rule(type=OptimizerType.ADAM, learning_rate=0.01),
    "Adam with everything": Rule(
        type=OptimizerType.ADAM, learning_rate=0.01, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.1
    ),
    "AdamW": Rule(type=OptimizerType.ADAM_W, learning_rate=0.01, weight_decay=0.01),
    "RMSprop": Rule(type=OptimizerType.RMS_PROP, learning_rate=0.01),
    "RMSprop with momentum": Rule(type=OptimizerType.RMS_PROP, learning_rate=0.01, momentum=0.9, weight_decay=0.1),
    "Adagrad": Rule(type=OptimizerType.ADAGRAD, learning_rate=0.01, epsilon=1e-10, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_optimisers_step_as_torchs_do(rule):
    from eagleray_runtime.training.torch_run import make_optimizer

    random = np.random.default_rng(0)
    theta = random.normal(size=20)
    theirs = torch.nn.ParameterList([torch.from_numpy(theta.copy())])
    ours, reference = make(rule, 20), make_optimizer(rule, theirs)
    for step in range(100):
        gradient = random.normal(size=20)
        theirs[0].grad = torch.from_numpy(gradient.copy())
        rate = 0.01 / (1 + step)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        ours.step(theta, gradient, rate)
    assert theta == pytest.approx(theirs[0].detach().numpy(), abs=1e-12)


def test_gradients_are_clipped_as_torch_clips_them():
    flat = np.random.default_rng(0).normal(size=50)
    theirs = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    theirs.grad = torch.from_numpy(flat.copy())
    torch.nn.utils.clip_grad_value_([theirs], 1.5)
    torch.nn.utils.clip_grad_norm_([theirs], 2.0)
    clip(Gradients(clipValue=1.5, clipNorm=2.0), flat)
    assert flat == pytest.approx(theirs.grad.numpy(), rel=1e-6)


SCHEDULERS = {
    "Step": ({"everyEpochs": 3, "factor": 0.5}, lambda o, n: torch.optim.lr_scheduler.StepLR(o, 30, 0.5)),
    "Exponential": ({"factor": 0.9}, lambda o, n: torch.optim.lr_scheduler.MultiStepLR(o, list(range(10, n, 10)), 0.9)),
    "Linear": ({}, lambda o, n: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, n)),
    "Cosine": ({}, lambda o, n: torch.optim.lr_scheduler.CosineAnnealingLR(o, n)),
    "OneCycle": ({}, lambda o, n: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, n, cycle_momentum=False)),
}


@pytest.mark.parametrize("type_", SCHEDULERS)
def test_the_rate_is_that_of_torchs_schedulers(type_):
    spec, make_scheduler = SCHEDULERS[type_]
    ours = schedule.decide(blocks.Schedule.model_validate({"type": type_} | spec), 10, 12)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = make_scheduler(optimizer, 120)
    for step in range(120):
        assert ours.share(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        theirs.step()


def test_a_plateau_is_seen_when_torch_sees_it():
    # Torch reduces when there were more bad epochs than its patience, we when there were as many.
    patience = Patience(epochs=3, threshold=1e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    watched, reductions = Watched(), 0
    random = np.random.default_rng(1)
    for epoch, loss in enumerate(np.abs(random.normal(size=60)) + 1.0, 1):
        theirs.step(loss)
        watched.saw(patience, epoch, loss)
        if watched.is_over(patience):
            reductions, watched.waited = reductions + 1, 0
        assert 0.5**reductions == pytest.approx(theirs.get_last_lr()[0]), epoch
    assert reductions > 5


SERVED = [
    Dense(inputs=3, outputs=1, head="Identity"),
    Dense(inputs=3, outputs=4, head="Softmax"),
    *(
        Dense(inputs=3, hidden=[6, 5], outputs=2, dropout=0.5, activation=activation, head="Softmax")
        for activation in blocks.Activation
    ),
]


@pytest.mark.parametrize("architecture", SERVED, ids=lambda a: f"{a.head} {a.hidden} {a.activation}")
def test_both_engines_serve_the_same_weights_alike(architecture):
    from eagleray_runtime.models.numpy_predictor import NumpyPredictor
    from eagleray_runtime.models.torch_predictor import TorchPredictor

    parameters = initial_parameters(architecture, Initialization(method=InitializationMethod.XAVIER_NORMAL), 5)
    x = np.random.default_rng(1).normal(size=(6, 3))
    expected = NumpyPredictor(architecture, parameters)(x)
    assert TorchPredictor(architecture, parameters)(x) == pytest.approx(expected, abs=1e-5)


def test_a_torch_checkpoint_restores_network_optimiser_and_course(tmp_path):
    from eagleray_runtime.models.torch_losses import total_loss
    from eagleray_runtime.training.torch_run import Run

    squares = Loss(type=LossType.MEAN_SQUARED_ERROR)
    plan = Plan(
        architecture=Dense(inputs=3, hidden=[6, 5], outputs=1, head="Identity"),
        initialization=Initialization(method=InitializationMethod.HE_NORMAL),
        loss=squares,
        optimizer=Rule(type=OptimizerType.ADAM, learning_rate=0.01),
        schedule=schedule.Schedule(type=ScheduleType.CONSTANT, steps=18, steps_per_epoch=2),
        batch_rows=4,
        epochs=9,
        seed=1,
        unit=1.0,
        stop=Patience(epochs=3),
        fingerprint="f",
    )
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(8)

    def step(run):
        run.optimizer.zero_grad()
        total_loss(squares, run.network(x), y).backward()
        run.optimizer.step()
        if run.course.end_epoch(1.0, 1.0, None):
            run.keep_best()

    whole = Run(plan, torch.device("cpu"), 0, 1)
    step(whole)
    step(whole)
    whole.save(tmp_path)
    resumed = Run(plan, torch.device("cpu"), 0, 1)
    resumed.restore(tmp_path)
    assert resumed.course.told() == whole.course.told()
    assert (resumed.course.epoch, resumed.course.stopping.epoch) == (2, 1)
    step(whole)
    step(resumed)
    for name, values in whole.network.state_dict().items():
        assert torch.equal(values, resumed.network.state_dict()[name])
        assert torch.equal(whole.best[name], resumed.best[name])
        assert not torch.equal(values, whole.best[name])

    other = Run(plan.model_copy(update={"fingerprint": "other"}), torch.device("cpu"), 0, 1)
    other.restore(tmp_path)
    assert other.course.epoch == 0
