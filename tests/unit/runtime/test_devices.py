"""What the device that trains decides where the spec leaves it open, and what is refused on the way there."""

import pytest

from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.data.loading import load
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture import Recurrent
from eagleray_runtime.training import devices
from eagleray_runtime.training.devices import Device, state_bytes
from eagleray_runtime.training.plan import decide

CPU, OLD, NEW = Device("cpu"), Device("cuda", 16 * 2**30), Device("cuda", 80 * 2**30, has_bfloat16=True)
RECURRENT = {"steps": 5, "inputs": 3, "cell": "LSTM", "size": 4, "layers": 1, "direction": "Forward", "outputs": 1}


@pytest.fixture
def plan(job):
    def make(training=None, architecture=None, **fields):
        config = job(training=training, engine="Torch", workers={"min": 1, "max": 4, "cpus": 1, "gpus": 1}, **fields)
        made, _ = decide(config, load(config))
        return made if architecture is None else made.model_copy(update={"architecture": architecture})

    return make


@pytest.mark.parametrize(
    ("device", "dense", "chosen", "words"),
    [
        (CPU, True, "Float32", "on a CPU"),
        (CPU, False, "Float32", "on a CPU"),
        (OLD, False, "Float32", "does not compute in BFloat16"),
        (NEW, False, "BFloat16", "multiplies faster"),
        (NEW, True, "Float32", "dense layers alone"),
    ],
)
def test_short_numbers_are_chosen_where_they_are_worth_it(plan, device, dense, chosen, words):
    architecture = None if dense else Recurrent.model_validate(RECURRENT | {"head": "Identity"})
    found, choice = devices.precision(plan(architecture=architecture), device)
    assert found == chosen == choice.value
    assert choice.field == "training.precision"
    assert words in choice.reason


def test_what_is_named_is_taken_without_a_word(plan):
    asked = plan({"precision": "Float16", "parallelism": {"strategy": "FSDP"}})
    assert devices.precision(asked, CPU) == ("Float16", None)
    assert devices.strategy(asked, NEW, 2) == ("FSDP", None)


@pytest.mark.parametrize(
    ("parameters", "device", "workers", "chosen"),
    [
        (10**6, CPU, 4, "DDP"),
        (10**6, OLD, 4, "DDP"),
        # 16 bytes of each parameter with Adam: 14.9 of 16 GiB.
        (10**9, OLD, 4, "FSDP"),
        (10**9, NEW, 4, "DDP"),
        (10**9, CPU, 4, "DDP"),
        (10**9, OLD, 1, "Auto"),
    ],
)
def test_the_state_is_shared_out_where_it_takes_more_than_half_of_a_gpu(plan, parameters, device, workers, chosen):
    size = int(parameters**0.5) - 4
    architecture = Recurrent.model_validate(RECURRENT | {"cell": "Plain", "inputs": 1, "size": size, "head": "Identity"})
    found, choice = devices.strategy(plan(architecture=architecture), device, workers)
    assert found == chosen
    assert (choice is None) == (workers == 1)
    if choice is not None:
        assert "GiB" in choice.reason


def test_gradients_that_travel_as_narrow_matrices_are_those_of_whole_ones(plan):
    made = plan({"gradients": {"compression": "PowerSGD"}})
    small = Device("cuda", 2 * state_bytes(made) - 1)
    assert devices.strategy(plan(), small, 2)[0] == "FSDP"
    found, choice = devices.strategy(made, small, 2)
    assert found == choice.value == "DDP"
    assert "PowerSGD needs whole matrices" in choice.reason


def test_the_state_counts_what_the_optimizer_remembers(plan):
    one = plan({"optimizer": {"type": "SGD"}})
    number = one.architecture.parameters * 4
    assert state_bytes(one) == 2 * number
    assert state_bytes(plan({"optimizer": {"type": "SGD", "momentum": 0.9}})) == 3 * number
    assert state_bytes(plan({"optimizer": {"type": "Adam"}})) == 4 * number
    assert state_bytes(plan({"optimizer": {"type": "Adam"}, "earlyStopping": {}})) == 5 * number
    assert state_bytes(plan({"optimizer": {"type": "Adam"}, "precision": "Float64"})) == 8 * number


def test_an_lstm_in_short_numbers_needs_a_gpu(job):
    lines = ["t,y", *(f"{t},{t % 5}" for t in range(200))]
    sequence = {"sequence": {"timeColumn": "t", "windowSteps": 4}}

    def made(gpus, cell):
        bounds = {"min": 1, "max": 1, "cpus": 1, "gpus": gpus}
        model, training = {"recurrentNetwork": {"cell": cell}}, {"precision": "BFloat16"}
        family = "RecurrentNetwork"
        config = job(lines, family=family, data=sequence, model=model, training=training, engine="Torch", workers=bounds)
        return decide(config, load(config))[0]

    with pytest.raises(ModelInvalid, match="of an LSTM needs a GPU"):
        made(0, "LSTM")
    assert made(0, "GRU").precision == "BFloat16"
    promised = made(1, "LSTM")
    assert devices.precision(promised, NEW) == ("BFloat16", None)
    found, choice = devices.precision(promised, CPU)
    assert found == "Float32"
    assert "CUDA finds no GPU" in choice.reason


REFUSED = {
    "numbers of torch": ("NumPy", {"precision": "Float32"}, "engine NumPy has no precision Float32"),
    "a compiler": ("NumPy", {"compile": "Default"}, "engine NumPy has no compile"),
    "a strategy of one worker": ("Torch", {"parallelism": {"strategy": "DDP"}}, "is for several workers"),
    "gradients for nobody": ("Torch", {"gradients": {"compression": "Float16"}}, "is for several workers"),
    "no layers to compute again": ("Torch", {"parallelism": {"activationCheckpointing": "Full"}}, "is for hidden layers"),
}


@pytest.mark.parametrize(("engine", "training", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_nothing_is_refused_however_it_came_about(job, engine, training, words):
    config = job(training=training, engine=engine)
    with pytest.raises(ModelInvalid, match=words):
        decide(config, load(config))


def test_numpy_says_what_it_computes_in(job):
    config = job()
    assert config.engine is Engine.NUMPY
    made, chosen = decide(config, load(config))
    assert made.precision == "Float64"
    assert [choice.value for choice in chosen if choice.field == "training.precision"] == ["Float64"]
