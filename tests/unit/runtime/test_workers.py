"""Two workers, precisions, and what travels between workers: the losses are those of one worker that computes in Float32."""

from pathlib import Path

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.data import sample
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.splitting import split_rows
from eagleray_runtime.errors import Diverged
from eagleray_runtime.storage import Store
from eagleray_runtime.training import numpy_engine
from eagleray_runtime.training.plan import decide
from tests.support.torch_runs import HereRun, Wanted

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

FOUR_EPOCHS = {"epochs": 4, "batchSize": 16, "optimizer": {"type": "Adam"}}
FSDP = {"parallelism": {"strategy": "FSDP"}}
CAREFUL = {"gradients": {"clipNorm": 0.8, "clipValue": 0.1, "accumulationSteps": 3}}

# Relative: a unit in the last place of Float32 is 6e-8, of Float16 5e-4, of BFloat16 4e-3, and 40 steps add up by chance; what
# PowerSGD leaves out of a step is added to the next one, so that steps come later.
ROUNDED, HALF, BRAIN, LATER = 2e-5, 2e-3, 2e-2, 0.5
CASES = {
    "DDP": (FOUR_EPOCHS, ROUNDED),
    "FSDP": (FOUR_EPOCHS | FSDP, ROUNDED),
    "FSDP-in-Float16": (FOUR_EPOCHS | FSDP | {"precision": "Float16"}, HALF),
    "DDP-in-BFloat16": (FOUR_EPOCHS | {"precision": "BFloat16"}, BRAIN),
    "DDP-by-Float16": (FOUR_EPOCHS | {"gradients": {"compression": "Float16"}}, HALF),
    "DDP-by-BFloat16": (FOUR_EPOCHS | {"gradients": {"compression": "BFloat16"}}, BRAIN),
    "DDP-by-PowerSGD": (FOUR_EPOCHS | {"gradients": {"compression": "PowerSGD"}}, LATER),
    "FSDP-by-BFloat16": (FOUR_EPOCHS | FSDP | {"gradients": {"compression": "BFloat16"}}, BRAIN),
}


@pytest.fixture
def perceptron(digits):
    """Configuration of a perceptron that learns some digits as rows of a table."""

    def make(training, workers=2):
        return digits("MultilayerPerceptron", rows=201, training=training, workers=workers, hiddenLayers=[24, 16])

    return make


@pytest.fixture
def series(job):
    """Configuration of a recurrent network on windows of a wave."""

    def make(training, workers=2):
        lines = ["t,y", *(f"{t},{np.sin(t / 3):.6f}" for t in range(150))]
        bounds = {"min": workers, "max": workers, "cpus": 1, "gpus": 0}
        data, model = {"sequence": {"timeColumn": "t", "windowSteps": 6}}, {"recurrentNetwork": {"hiddenSize": 8}}
        fields = {"training": training, "engine": "Torch", "workers": bounds}
        config = job(lines, family="RecurrentNetwork", data=data, model=model, **fields)
        # Each configuration has its rows in a file of its own.
        path = Path(config.data_file).with_name("wave.csv")
        path.write_text("\n".join(lines))
        return config.model_copy(update={"data_file": str(path)})

    return make


def test_every_way_to_share_the_work_comes_to_the_losses_of_one_worker(perceptron, digits, series, two_workers, tmp_path: Path):
    careful = FOUR_EPOCHS | CAREFUL
    recomputing = careful | {"parallelism": {"strategy": "FSDP", "activationCheckpointing": "Full"}}
    images = {"rows": 60, "channels": [4, 6], "hiddenLayers": [8]}
    # Adam makes a whole step of a gradient that is rounding alone, such as that of a bias before its normalisation.
    two_epochs = {"epochs": 2, "batchSize": 16, "optimizer": {"type": "SGD"}}
    runs = {name: Wanted(perceptron(training)) for name, (training, _) in CASES.items()}
    runs["Float64"] = Wanted(perceptron(FOUR_EPOCHS | FSDP | {"precision": "Float64"}))
    runs["careful"] = Wanted(perceptron(recomputing))
    runs["windows"] = Wanted(series(two_epochs | FSDP))
    runs["images"] = Wanted(digits(training=two_epochs | FSDP, workers=2, **images))
    runs["images-in-BFloat16"] = Wanted(digits(training=two_epochs | {"precision": "BFloat16"}, workers=2, **images))
    came = two_workers.run(tmp_path / "runs", runs)

    plain = HereRun(perceptron(FOUR_EPOCHS, workers=1)).to_the_end()
    for name, (_, tolerance) in CASES.items():
        assert came[name].losses == pytest.approx(plain.losses, rel=tolerance), name
    for name in set(CASES) - {"DDP", "FSDP"}:
        # What is to be rounded is: two workers' sums do not depend on chance.
        assert came[name].losses != came["DDP"].losses, name
    total = plain.plan.architecture.parameters
    for name, found in came.items():
        shared_out = "FSDP" in name or name in ("Float64", "careful")
        other = "images" in name or name == "windows"
        assert other or (found.held < 0.55 * total if shared_out else found.held == total), name

    alone = HereRun(perceptron(careful, workers=1)).to_the_end()
    assert came["careful"].losses == pytest.approx(alone.losses, rel=ROUNDED)
    assert came["careful"].losses != pytest.approx(plain.losses, rel=ROUNDED)

    forecast = HereRun(series(two_epochs, workers=1)).to_the_end()
    assert came["windows"].losses == pytest.approx(forecast.losses, rel=ROUNDED)
    assert came["windows"].held < 0.55 * forecast.plan.architecture.parameters

    seen = HereRun(digits(training=two_epochs, **images)).to_the_end()
    assert came["images"].losses == pytest.approx(seen.losses, rel=ROUNDED)
    assert came["images-in-BFloat16"].losses == pytest.approx(seen.losses, rel=2 * BRAIN)
    for name, values in seen.state.items():
        assert came["images"].state[name] == pytest.approx(values, rel=1e-3, abs=1e-4), name

    config = perceptron(FOUR_EPOCHS, workers=1).model_copy(update={"engine": Engine.NUMPY})
    dataset = load(config)
    by_numpy = numpy_engine.train(decide(config, dataset)[0], dataset, Store(config.checkpoints), lambda end: None, lambda: 0.0)
    expected = [point.training for point in by_numpy.history] + [point.validation for point in by_numpy.history]
    assert came["Float64"].losses == pytest.approx(expected, rel=1e-9)


def test_a_run_goes_on_with_another_number_of_workers(perceptron, two_workers, tmp_path: Path):
    training = FOUR_EPOCHS | {"precision": "Float16", "earlyStopping": {"metric": "Accuracy"}}
    config = perceptron(training | FSDP)
    whole = HereRun(config).to_the_end()
    (place := tmp_path / "alone").mkdir()
    HereRun(config).to_the_end(2).run.save(place)
    came = two_workers.run(tmp_path / "runs", {"first": Wanted(config, epochs=2), "second": Wanted(config, checkpoint=place)})
    resumed = HereRun(config)
    resumed.run.restore(came["first"].checkpoint)
    assert resumed.run.course.epoch == 2
    assert resumed.run.scaler.get_scale() == whole.run.scaler.get_scale()
    resumed.to_the_end()
    for losses, state in ((resumed.losses, resumed.state), (came["second"].losses, came["second"].state)):
        assert losses == pytest.approx(whole.losses, rel=HALF)
        for name, values in whole.state.items():
            assert state[name] == pytest.approx(values, abs=2e-3), name
    assert resumed.run.course.stopping.epoch == whole.run.course.stopping.epoch


def test_run_to_convergence_the_reference_example_is_that_of_least_squares(job):
    training = {"epochs": 4000, "precision": "Float64", "optimizer": {"type": "GradientDescent", "learningRate": 0.01}}
    here = HereRun(job(engine="Torch", training=training)).to_the_end()
    here.save()
    (found,) = read_bundle(Store(here.config.output)).manifest.coefficients
    x, y = (sample.linear_regression(0)[name].values[split_rows(100, here.config.data.split, None).training] for name in "xy")
    slope, intercept = np.polyfit(x, y, 1)
    assert found.weights["x"] == pytest.approx(slope, abs=1e-6)
    assert found.intercept == pytest.approx(intercept, abs=1e-6)


def test_layers_that_are_computed_again_are_not_remembered(perceptron, digits):
    """What autograd keeps for the backward pass, and that dropout drops the same units again."""

    def kept(config):
        here, found = HereRun(config), []

        def keep(tensor):
            found.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            here.to_the_end(1)
        return sum(found), here.state

    full = {"parallelism": {"activationCheckpointing": "Full"}}
    for make in (
        lambda training: digits(rows=40, training=training, channels=[4], hiddenLayers=[8], normalization="Layer", dropout=0.5),
        lambda training: digits("MultilayerPerceptron", rows=40, training=training, hiddenLayers=[64, 64], activation="GELU"),
    ):
        all_of_it, expected = kept(make(FOUR_EPOCHS))
        less, state = kept(make(FOUR_EPOCHS | full))
        assert less < 0.7 * all_of_it
        for name, values in expected.items():
            assert np.array_equal(state[name], values), name


def test_a_compiled_network_trains_as_one_that_is_not(perceptron):
    plain = HereRun(perceptron(FOUR_EPOCHS | {"epochs": 2}, workers=1)).to_the_end()
    compiled = HereRun(perceptron(FOUR_EPOCHS | {"epochs": 2, "compile": "Default"}, workers=1))
    calls = torch._dynamo.utils.counters["stats"]
    before = calls["calls_captured"]
    compiled.to_the_end()
    assert calls["calls_captured"] > before
    assert compiled.losses == pytest.approx(plain.losses, rel=ROUNDED)


def test_it_is_said_what_is_missing_to_compile(perceptron, monkeypatch):
    from eagleray_runtime.errors import ModelInvalid
    from eagleray_runtime.training.torch_engine import require_compiler

    plan = HereRun(perceptron({"compile": "Default"}, workers=1)).plan
    require_compiler(plan)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ModelInvalid, match="the image holds no no-such-compiler"):
        require_compiler(plan)


def test_workers_that_are_started_anew_cost_what_was_not_saved_and_the_time_until_they_train(perceptron, monkeypatch):
    from ray.train import Checkpoint

    from eagleray_runtime.contract.reports import Stage
    from eagleray_runtime.reports import Reporter
    from eagleray_runtime.training import torch_engine
    from eagleray_runtime.training.progress import Progress

    progress = Progress(perceptron({}), Reporter("http://nobody"))
    monkeypatch.setattr(progress, "_reporter", type("Silent", (), {"due": lambda *_: True, "progress": lambda *_: None})())
    progress.stage(Stage.TRAINING)
    tell = torch_engine.RunCallback(progress)
    now = torch_engine.time.time()

    def at(seconds):
        monkeypatch.setattr(torch_engine.time, "time", lambda: now + seconds)

    def report(seconds, *, began, epoch, saved_at, resumed_from=0, checkpoint=None, waited=0.0):
        at(seconds)
        told = {
            "epoch": epoch,
            "step": 1,
            "training": 1.0,
            "validation": None,
            "resumed_from": resumed_from,
            "history": [],
            "chosen": [],
            "began": now + began,
            "saved_at": now + saved_at,
            "first_epoch": None,
            "checkpoint_seconds": waited,
        }
        tell.after_report(None, [told] * 2, checkpoint)
        spent = progress.last.spent
        assert spent is not None
        assert spent.seconds == pytest.approx(seconds, abs=1)
        return tuple(round(value) for value in (spent.checkpoint, spent.lost, spent.recovery, spent.unsaved))

    assert report(10, began=0, epoch=1, saved_at=0) == (0, 0, 0, 10)
    saved = Checkpoint("/checkpoint")
    assert report(15, began=0, epoch=2, saved_at=13, checkpoint=saved, waited=2) == (2, 0, 0, 2), "it travelled for 2 s"
    # The checkpoint of second 18 has not arrived yet, so that training goes on from that of second 13.
    at(20)
    tell.after_exception(None, {0: ConnectionError("a worker is lost")})
    assert report(60, began=50, epoch=3, saved_at=50, resumed_from=2, waited=1) == (3, 7, 30, 10)
    # Others join, which ends training at about the last report; nothing has been saved since.
    assert report(90, began=80, epoch=3, saved_at=80, resumed_from=2) == (3, 17, 50, 10)


class Context:
    """Of Ray Train's worker context what a single worker asks for."""

    get_world_rank = staticmethod(lambda: 0)
    get_world_size = staticmethod(lambda: 1)


@pytest.fixture
def alone(monkeypatch):
    """What each worker runs, with a Ray that only listens."""
    from eagleray_runtime.training import torch_worker
    from eagleray_runtime.training.torch_rows import sent

    monkeypatch.setattr(torch_worker, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(torch_worker.ray.train, "get_context", Context)
    monkeypatch.setattr(torch_worker.ray, "get", lambda value: value)

    def worked(config, report, checkpoint=None):
        monkeypatch.setattr(torch_worker.ray.train, "report", report)
        monkeypatch.setattr(torch_worker.ray.train, "get_checkpoint", lambda: checkpoint)
        dataset = load(config)
        plan, _ = decide(config, dataset)
        told = {"plan": plan.model_dump(mode="json"), "target": dataset.preparation.target.model_dump(mode="json")}
        parts = [sent(part, plan.precision) for part in (dataset.training, dataset.validation)]
        return torch_worker.train(told | {"parts": parts, "asked_at": torch_worker.time.time() - 3.0, "start": None})

    return worked


def test_a_worker_tells_its_epochs_and_what_it_chose_and_goes_on_from_its_checkpoint(perceptron, alone, tmp_path):
    import shutil

    from ray.train import Checkpoint, CheckpointUploadMode

    config = perceptron(FOUR_EPOCHS | {"checkpoint": {"everyEpochs": 2}}, workers=1)
    reports = []

    def report(told, checkpoint=None, checkpoint_upload_mode=None):
        if checkpoint is not None:
            assert checkpoint_upload_mode is CheckpointUploadMode.ASYNC, "training goes on meanwhile"
            checkpoint = Checkpoint(shutil.move(checkpoint.path, tmp_path / f"report-{len(reports)}"))
        reports.append((told, checkpoint))

    whole = alone(config, report)
    assert [told["epoch"] for told, _ in reports] == [1, 2, 3, 4]
    assert [told["epoch"] for told, checkpoint in reports if checkpoint] == [2, 4]
    assert {choice["field"]: choice["value"] for choice in reports[0][0]["chosen"]} == {"training.precision": "Float32"}
    after, seconds = whole["first_epoch"]
    assert 3 <= after < 60
    assert 0 < seconds < 60
    assert whole["checkpoint_seconds"] > 0
    assert (whole["epoch"], whole["workers"], whole["device"]) == (4, 1, "cpu")

    resumed = alone(config, report, reports[1][1])
    assert (resumed["resumed_from"], resumed["first_epoch"]) == (2, None)
    for name, values in whole["parameters"].items():
        assert np.array_equal(resumed["parameters"][name], values), name


def test_a_worker_ends_with_what_an_epoch_came_to_if_it_is_nothing_to_go_on_with(job, alone):
    reports = []
    diverging = job(engine="Torch", training={"epochs": 500, "optimizer": {"type": "SGD", "learningRate": 100}})
    with pytest.raises(Diverged, match=r"set training\.optimizer\.learningRate below 100"):
        alone(diverging, lambda told: reports.append(told["training"]))
    assert np.isfinite(reports).all(), "what is told is finite"
