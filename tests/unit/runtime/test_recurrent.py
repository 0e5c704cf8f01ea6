"""Recurrent networks: what they compute, that they forecast, and that an interruption changes nothing."""

import numpy as np
import pytest

from eagleray_runtime.contract.blocks import Activation, Initialization, InitializationMethod
from eagleray_runtime.models.architecture import Recurrent
from eagleray_runtime.models.initialization import decide, initial_parameters
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.torch_runs import HereRun, Wanted, changed_alike_when_interrupted

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

SEQUENCE = {"timeColumn": "t", "windowSteps": 24}
DEEP = {"cell": "LSTM", "hiddenSize": 6, "layers": 2, "direction": "Bidirectional", "dropout": 0.3}


def waves(rows=600, noise=0.1):
    """Two sines whose periods do not fit into each other, with noise of the deviation `noise`."""
    t = np.arange(rows)
    return np.sin(2 * np.pi * t / 12) + 0.7 * np.sin(2 * np.pi * t / 7.3) + np.random.default_rng(0).normal(0, noise, rows)


@pytest.fixture
def series(job):
    """Configuration of a job that forecasts a series."""

    def make(y, training=None, sequence=None, data=None, **shape):
        lines = ["t,y", *(f"{t},{value}" for t, value in enumerate(y))]
        model = {"recurrentNetwork": shape} if shape else {}
        data = {"sequence": SEQUENCE | (sequence or {})} | (data or {})
        return job(lines, family="RecurrentNetwork", engine="Torch", data=data, model=model, training=training)

    return make


def error_of_the_last_value(run):
    """Root mean square error on the test part of predicting the last value of each window."""
    part, target = run.dataset.test, run.dataset.preparation.target
    [column] = run.dataset.preparation.columns
    last = part.x[:, -1, 0] * column.scale + column.offset
    return float(np.sqrt(np.mean((last - (part.y * target.scale + target.offset)) ** 2)))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "Plain"])
def test_it_forecasts_better_than_the_last_value_would(series, cell):
    training = {"epochs": 25, "optimizer": {"learningRate": 0.01}}
    run = HereRun(series(waves(), training, cell=cell, hiddenSize=16)).to_the_end()
    # The noise alone is 0.1, and nobody can foresee it.
    assert run.metrics()["RMSE", "Test"] < 0.4 * error_of_the_last_value(run)


def test_it_forecasts_further_ahead_than_one_step(series):
    training = {"epochs": 25, "optimizer": {"learningRate": 0.01}}
    run = HereRun(series(waves(), training, {"horizonSteps": 6}, hiddenSize=16)).to_the_end()
    assert run.metrics()["RMSE", "Test"] < 0.4 * error_of_the_last_value(run)


def test_it_tells_what_class_comes_next(series):
    # Heads come where the two rows before differed: no single row says so.
    coins = ["heads", "tails"]
    random = np.random.default_rng(1)
    for _ in range(398):
        differ = coins[-1] != coins[-2]
        coins.append("heads" if differ is (random.random() < 0.98) else "tails")
    training = {"epochs": 30, "optimizer": {"learningRate": 0.02}}
    run = HereRun(series(coins, training, {"windowSteps": 4}, hiddenSize=8)).to_the_end()
    assert run.dataset.classes == ["heads", "tails"]
    assert run.metrics()["Accuracy", "Test"] > 0.85


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "Plain"])
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(series, tmp_path, cell):
    config = series(waves(200), {"epochs": 4, "earlyStopping": {}}, {"windowSteps": 8}, **DEEP | {"cell": cell})
    changed, every = changed_alike_when_interrupted(config, tmp_path)
    assert changed == every


def architecture(**fields):
    told = {"steps": 5, "inputs": 3, "cell": "LSTM", "size": 4, "layers": 1, "direction": "Forward", "outputs": 2}
    return Recurrent.model_validate(told | {"head": "Softmax"} | fields)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_it_computes_the_lstm_of_the_books():
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, gates in torch's order."""
    from eagleray_runtime.models.torch_predictor import TorchPredictor

    made = architecture()
    random = np.random.default_rng(0)
    parameters = {name: random.normal(size=shape) for name, shape in made.shapes.items()}
    x = random.normal(size=(6, 5, 3))
    state, memory = np.zeros((6, 4)), np.zeros((6, 4))
    for step in range(5):
        z = x[:, step] @ parameters["recurrence.weight_ih_l0"].T + parameters["recurrence.bias_ih_l0"]
        z = z + state @ parameters["recurrence.weight_hh_l0"].T + parameters["recurrence.bias_hh_l0"]
        take, keep, new, give = np.split(z, 4, axis=1)
        memory = sigmoid(keep) * memory + sigmoid(take) * np.tanh(new)
        state = sigmoid(give) * np.tanh(memory)
    expected = state @ parameters["output.weight"].T + parameters["output.bias"]
    assert TorchPredictor(made, parameters)(x) == pytest.approx(expected, abs=1e-5)


def test_both_directions_end_where_they_have_read_the_whole_window():
    from eagleray_runtime.models.torch_predictor import TorchPredictor

    made = architecture(cell="Plain", direction="Bidirectional")
    random = np.random.default_rng(0)
    parameters = {name: random.normal(size=shape) for name, shape in made.shapes.items()}
    x = random.normal(size=(6, 5, 3))
    ends = []
    for way, steps in (("", range(5)), ("_reverse", range(4, -1, -1))):
        state = np.zeros((6, 4))
        for step in steps:
            z = x[:, step] @ parameters[f"recurrence.weight_ih_l0{way}"].T + parameters[f"recurrence.bias_ih_l0{way}"]
            state = np.tanh(z + state @ parameters[f"recurrence.weight_hh_l0{way}"].T + parameters[f"recurrence.bias_hh_l0{way}"])
        ends.append(state)
    expected = np.concatenate(ends, axis=1) @ parameters["output.weight"].T + parameters["output.bias"]
    assert TorchPredictor(made, parameters)(x) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "Plain"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("direction", ["Forward", "Bidirectional"])
def test_the_architecture_names_what_torch_has(cell, layers, direction):
    from eagleray_runtime.models.torch_network import torch_network

    made = architecture(cell=cell, layers=layers, direction=direction, dropout=0.5)
    assert {name: tuple(values.shape) for name, values in torch_network(made).state_dict().items()} == made.shapes
    assert made.parameters == sum(values.numel() for values in torch_network(made).parameters())


def test_dropout_leaves_outputs_of_a_single_layer_out_too():
    from eagleray_runtime.models.torch_network import torch_network

    network = torch_network(architecture(dropout=0.5))
    x = torch.randn(4, 5, 3)
    torch.manual_seed(0)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_the_weights_of_each_gate_are_drawn_by_themselves():
    made = architecture(size=50, inputs=50)
    assert made.nonlinearity is Activation.TANH
    assert decide(made)[0] is InitializationMethod.XAVIER_UNIFORM
    drawn = initial_parameters(made, Initialization(method=InitializationMethod.ORTHOGONAL), 0)
    for gate in np.split(drawn["recurrence.weight_hh_l0"], 4):
        assert gate @ gate.T == pytest.approx(np.eye(50), abs=1e-9)
    xavier = initial_parameters(made, Initialization(method=InitializationMethod.XAVIER_NORMAL), 0)
    assert xavier["recurrence.weight_ih_l0"].var() == pytest.approx(2 / (50 + 50), rel=0.05)
    assert not xavier["recurrence.bias_ih_l0"].any()


def test_two_workers_come_to_what_one_does(series, two_workers, tmp_path):
    config = series(waves(200), {"epochs": 3}, {"windowSteps": 8}, **DEEP | {"dropout": 0.0})
    two = two_workers.run(tmp_path / "runs", {"two": Wanted(config)})["two"]
    assert two.losses == pytest.approx(HereRun(config).to_the_end().losses, rel=1e-3)


@on_a_gpu
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "Plain"])
def test_a_gpu_learns_what_the_processor_learns(series, tmp_path, cell):
    shape = DEEP | {"cell": cell, "dropout": 0.0}
    assert_learns_alike(series(waves(300), {"epochs": 4}, {"windowSteps": 8}, **shape), tmp_path)
