"""Convolutional networks: what they compute, that they learn, and that an interruption changes nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eagleray_runtime.contract.blocks import Initialization, InitializationMethod
from eagleray_runtime.models.architecture import Convolutional
from eagleray_runtime.models.initialization import initial_parameters
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.torch_runs import HereRun, changed_alike_when_interrupted

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

SHAPE = {"channels": [4, 6], "hiddenLayers": [8]}
SHAPES = {
    "batch normalisation": {},
    "layer normalisation and an average": {"normalization": "Layer", "pooling": "Average", "kernelSize": 2},
    "neither": {"normalization": "None", "pooling": "None"},
}
FOUR_EPOCHS = {"epochs": 4, "batchSize": 16}


def test_it_tells_more_digits_apart_than_a_perceptron_of_the_same_epochs(digits):
    perceptron = HereRun(digits("MultilayerPerceptron")).to_the_end().metrics()
    convolutional = HereRun(digits(channels=[8, 16], hiddenLayers=[32])).to_the_end().metrics()
    assert convolutional["Accuracy", "Test"] >= perceptron["Accuracy", "Test"] > 0.9
    assert convolutional["LogLoss", "Test"] < perceptron["LogLoss", "Test"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_interrupted_run_ends_with_the_weights_and_statistics_of_an_undisturbed_one(digits, tmp_path, shape):
    config = digits(rows=200, training=FOUR_EPOCHS | {"earlyStopping": {}}, dropout=0.3, **SHAPE | shape)
    changed, every = changed_alike_when_interrupted(config, tmp_path)
    assert changed == every


def test_another_seed_trains_another_model(digits):
    one, other = (HereRun(digits(rows=60, training={"epochs": 1, "seed": seed}, **SHAPE)).to_the_end() for seed in (1, 2))
    assert not np.array_equal(one.state["convolutions.0.weight"], other.state["convolutions.0.weight"])


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_laid_out_as_their_parameters_so_that_workers_exchange_them_as_they_are(channels):
    from eagleray_runtime.models.torch_convolutional import ConvolutionalNetwork

    architecture = Convolutional.model_validate(
        {"height": 6, "width": 6, "inputs": channels, "channels": [4], "kernelSize": 3, "pooling": "Max"}
        | {"normalization": "Layer", "hidden": [4], "outputs": 2, "activation": "ReLU", "head": "Softmax"}
    )
    network = ConvolutionalNetwork(architecture, torch.float32)
    network(torch.randn(8, 6, 6, channels)).sum().backward()
    kernels = network.convolutions[0].weight
    assert kernels.is_contiguous()
    assert kernels.grad.stride() == kernels.stride()


def test_it_computes_convolution_scale_activation_pooling_and_layers_in_this_order():
    from eagleray_runtime.models.torch_predictor import TorchPredictor

    architecture = Convolutional.model_validate(
        {"height": 5, "width": 4, "inputs": 2, "channels": [3], "kernelSize": 3, "pooling": "Max", "normalization": "Batch"}
        | {"hidden": [4], "outputs": 2, "activation": "Tanh", "head": "Softmax"}
    )
    method = Initialization(method=InitializationMethod.XAVIER_NORMAL)
    random = np.random.default_rng(0)
    parameters = initial_parameters(architecture, method, 3)
    parameters |= {
        name: random.uniform(0.5, 2, values.shape) for name, values in parameters.items() if name.startswith("normalizations")
    }
    x = random.normal(size=(6, 5, 4, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    z = np.einsum("rhwcij,ocij->rhwo", windows, parameters["convolutions.0.weight"]) + parameters["convolutions.0.bias"]
    deviation = np.sqrt(parameters["normalizations.0.running_var"] + 1e-5)
    z = (z - parameters["normalizations.0.running_mean"]) / deviation
    a = np.tanh(z * parameters["normalizations.0.weight"] + parameters["normalizations.0.bias"])
    pooled = a[:, :4].reshape(6, 2, 2, 2, 2, 3).max(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(6, -1)
    hidden = np.tanh(pooled @ parameters["layers.0.weight"].T + parameters["layers.0.bias"])
    expected = hidden @ parameters["layers.1.weight"].T + parameters["layers.1.bias"]
    assert TorchPredictor(architecture, parameters)(x) == pytest.approx(expected, abs=1e-5)


DRAWN = {
    "XavierNormal": torch.nn.init.xavier_normal_,
    "HeNormal": torch.nn.init.kaiming_normal_,
    "Orthogonal": torch.nn.init.orthogonal_,
}


@pytest.mark.parametrize("method", DRAWN)
def test_kernels_are_drawn_by_their_inputs_and_outputs_as_torch_counts_them(method):
    architecture = Convolutional.model_validate(
        {"height": 8, "width": 8, "inputs": 16, "channels": [32], "kernelSize": 5, "pooling": "Max", "normalization": "None"}
        | {"hidden": [4], "outputs": 2, "activation": "ReLU", "head": "Softmax"}
    )
    parameters = initial_parameters(architecture, Initialization(method=InitializationMethod(method)), 1)
    theirs = DRAWN[method](torch.empty(32, 16, 5, 5))
    assert parameters["convolutions.0.weight"].var() == pytest.approx(theirs.var().item(), rel=0.05)


def test_pieces_and_the_whole_come_to_the_same(monkeypatch, digits):
    from eagleray_runtime.models import torch_module

    run = HereRun(digits(rows=100, training={"epochs": 1}, **SHAPE)).to_the_end()
    whole = run.metrics()
    monkeypatch.setattr(torch_module, "PIECE_NUMBERS", 7 * run.plan.architecture.widest)
    assert run.metrics() == pytest.approx(whole, rel=1e-5)


TWO_WORKERS = """
import sys
import numpy as np
import torch
import torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel
from eagleray_runtime.models.torch_batch import BatchNormalization

def trained(rank, world, folder):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 3, 3), BatchNormalization(3, torch.float64), torch.nn.Flatten(), torch.nn.Linear(12, 1)]
    network = torch.nn.Sequential(*layers).double()
    model = network
    if world > 1:
        network[1].share(None)
        model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    x = torch.randn(7, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 5
    # The last step has a single row, so that one of the workers has none.
    for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
        share = x[rows][rank::world]
        optimizer.zero_grad()
        ((model(share) ** 2).sum() * world / len(x[rows])).backward()
        optimizer.step()
    return {name: values.numpy() for name, values in network.state_dict().items()}

def main(rank, world, folder):
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    np.savez(f"{folder}/{world}-{rank}.npz", **trained(rank, world, folder))
    if world > 1:
        distributed.destroy_process_group()

main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


def test_batches_are_normalised_over_the_rows_of_all_workers(tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(TWO_WORKERS)
    workers = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(world), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank, world in ((0, 1), (0, 2), (1, 2))
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said
    alone, one, two = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    assert alone["1.num_batches_tracked"] == 3
    for name in alone.files:
        assert one[name] == pytest.approx(alone[name], rel=1e-9, abs=1e-12), name
        assert two[name] == pytest.approx(alone[name], rel=1e-9, abs=1e-12), name


def test_a_step_of_fewer_rows_than_parts_spoils_no_statistics(digits):
    # 161 rows are trained on: the last step has a single one, for four parts.
    training = {"epochs": 2, "batchSize": 16, "gradients": {"accumulationSteps": 4}}
    run = HereRun(digits(rows=201, training=training, **SHAPE))
    assert run.dataset.training.rows % 16 == 1
    state = run.to_the_end().state
    # Ten whole steps of four parts, and one part of a row: what has no rows has no statistics.
    assert state["normalizations.0.num_batches_tracked"] == 2 * (10 * 4 + 1)


def test_parts_of_a_step_come_to_the_step_of_the_whole(digits):
    shape = SHAPE | {"normalization": "None"}
    training = {"epochs": 2, "batchSize": 16, "optimizer": {"type": "SGD"}}
    whole = HereRun(digits(rows=100, training=training, **shape)).to_the_end().state
    parts = HereRun(digits(rows=100, training=training | {"gradients": {"accumulationSteps": 5}}, **shape)).to_the_end().state
    for name, values in whole.items():
        assert parts[name] == pytest.approx(values, abs=1e-5), name


@on_a_gpu
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_gpu_learns_what_the_processor_learns(digits, tmp_path, shape):
    assert_learns_alike(digits(rows=400, training=FOUR_EPOCHS, **SHAPE | shape), tmp_path)


@on_a_gpu
def test_a_compiled_network_learns_on_a_gpu_what_the_processor_learns(digits, tmp_path):
    assert_learns_alike(digits(rows=400, training=FOUR_EPOCHS | {"compile": "Default"}, **SHAPE), tmp_path)
