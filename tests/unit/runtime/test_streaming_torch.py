"""Rows that are streamed to torch: what one worker and several of them come to, and a network of the user's own."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import WorkerBounds
from eagleray_runtime.data import survey
from eagleray_runtime.storage import Store
from eagleray_runtime.training import numpy_engine
from eagleray_runtime.training.plan import decide
from tests.support.torch_runs import HereRun, Wanted, changed_alike_when_interrupted

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

ROWS, ROW_GROUP = 1500, 70
THREE_EPOCHS = {"epochs": 3, "batchSize": 64}
ROUNDED = 2e-5


@pytest.fixture
def streamed(job, tmp_path):
    """Configuration of a job by torch that streams rows of two classes, in lanes for so many workers."""

    def make(training=None, *, lanes=2, family="MultilayerPerceptron", model=None, data=None):
        path = tmp_path / "rows.parquet"
        if not path.exists():
            random = np.random.default_rng(5)
            a, b = random.normal(2, 3, (2, ROWS))
            half = np.where(a * b + random.normal(0, 1, ROWS) > 0, "high", "low")
            table = pa.table({"a": a, "b": b, "c": random.choice(["x", "y", "z"], ROWS), "half": half})
            parquet.write_table(table, path, row_group_size=ROW_GROUP)
        uri = f"file://{path}"
        return job(
            family=family,
            engine="Torch",
            model=model or {"multilayerPerceptron": {"hiddenLayers": [12]}},
            data={"uri": uri, "sample": None, "target": "half", "loading": "Stream"} | (data or {}),
            training=THREE_EPOCHS | (training or {}),
            workers={"min": 1, "max": lanes, "cpus": 1, "gpus": 0},
            dataLocation={"uri": uri},
        )

    return make


def test_both_engines_learn_from_the_same_rows_in_the_same_order(streamed):
    config = streamed({"precision": "Float64"}, lanes=1)
    here = HereRun(config).to_the_end()
    dataset = survey.load(config, {})
    plan, _ = decide(config.model_copy(update={"engine": blocks.Engine.NUMPY}), dataset)
    outcome = numpy_engine.train(plan, dataset, Store(config.checkpoints), lambda _: None)
    expected = [point.training for point in outcome.history] + [point.validation for point in outcome.history]
    assert here.losses == pytest.approx(expected, rel=1e-9)


def test_two_workers_come_to_what_one_comes_to(streamed, two_workers, tmp_path: Path):
    stopping = {"earlyStopping": {"metric": "ROCAUC", "patienceEpochs": 3}}
    cases = {
        "DDP": {},
        "FSDP": {"parallelism": {"strategy": "FSDP"}},
        "accumulated": {"gradients": {"accumulationSteps": 3}},
        "a-row-left-over": {"batchSize": 9},
        "stopping": stopping,
    }
    runs = {name: Wanted(streamed(training, lanes=3 if name == "accumulated" else 2)) for name, training in cases.items()}

    came = two_workers.run(tmp_path / "runs", runs)

    for name, run in runs.items():
        alone = HereRun(run.config).to_the_end()
        assert came[name].losses == pytest.approx(alone.losses, rel=ROUNDED), name
    alone = HereRun(runs["stopping"].config).to_the_end()
    best = {key: pytest.approx(values, abs=1e-4) for key, values in alone.state.items()}
    assert came["stopping"].state == best


def test_an_interrupted_training_goes_on_in_the_same_order(streamed, tmp_path: Path):
    changed, all_of_them = changed_alike_when_interrupted(streamed(lanes=3), tmp_path)
    assert changed == all_of_them


def test_another_bound_of_the_workers_does_not_cost_what_is_learned(streamed, tmp_path: Path):
    config = streamed(lanes=2)
    HereRun(config).to_the_end(2).run.save(tmp_path)
    more = HereRun(config.model_copy(update={"workers": WorkerBounds(min=1, max=5, cpus=1, gpus=0)}))
    more.run.restore(tmp_path)
    assert more.run.course.epoch == 2


def test_a_network_of_the_users_own_learns_from_rows_that_are_streamed(streamed, tmp_path: Path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def network(*, inputs, outputs, parameters):\n"
        "    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))\n"
    )
    custom = {"entrypoint": "own:network", "uri": f"file://{tmp_path}/own.py"}
    config = streamed(family="Custom", model={"custom": custom})
    config = config.model_copy(update={"code_location": config.data_location.model_copy(update={"uri": custom["uri"]})})
    losses = HereRun(config).to_the_end().losses
    assert losses[2] < losses[0]
