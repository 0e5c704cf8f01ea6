"""A search on a real Ray: several trials at once, and trials that are Ray Train's."""

import json
from pathlib import Path
from typing import Any

import pytest

from eagleray_runtime.training.trials import Ended
from tests.runtime_ray.private_ray import PrivateRay, run_python
from tests.runtime_ray.test_end_to_end import train, training_config

pytestmark = pytest.mark.ray

SEARCH = {
    "metric": "LogLoss",
    "maxTrials": 5,
    "parameters": [
        {"field": "training.optimizer.learningRate", "range": {"min": 0.001, "max": 0.1, "scale": "Log"}},
        {"field": "data.preparation.scaling", "choices": ["Standard", "None"]},
    ],
}


def searched(folder: Path, ray: PrivateRay, **changes: Any) -> dict[str, Any]:
    """The manifest of the bundle."""
    folder.mkdir()
    training = {"epochs": 10, "optimizer": {"type": "Adam"}}
    train(training_config(folder, training=training, **({"search": SEARCH} | changes)), folder, ray.environment)
    manifest: dict[str, Any] = json.loads((folder / "model" / "bundle.json").read_text())
    return manifest


def test_trials_at_once_are_those_one_after_the_other(tmp_path: Path, ray: PrivateRay) -> None:
    alone = searched(tmp_path / "alone", ray)
    workers = {"min": 1, "max": 1, "cpus": 2, "gpus": 0}
    at_once = searched(tmp_path / "at-once", ray, search=SEARCH | {"parallelTrials": 3}, workers=workers)
    assert at_once["search"] == alone["search"]
    assert len(at_once["search"]["top"]) == 5
    assert at_once["weights"] == alone["weights"]
    told = {choice["field"]: choice["value"] for choice in at_once["chosen"]}
    assert told["search.parallelTrials"] == "2"


def test_asha_ends_trials_that_run_at_once(tmp_path: Path, ray: PrivateRay) -> None:
    workers = {"min": 1, "max": 1, "cpus": 2, "gpus": 0}
    wanted = SEARCH | {"algorithm": "ASHA", "maxTrials": 12, "parallelTrials": 2}
    search = searched(tmp_path / "asha", ray, search=wanted, workers=workers)["search"]
    assert search["trials"] == 12
    assert 0 < search["stopped"] < 12
    assert search["best"] is not None


LOST = """
import os, sys, ray
from eagleray_runtime.training import parallel
from eagleray_runtime.training.trial import Trial
ray.init(log_to_driver=False)
gone = ray.remote(max_retries=0)(lambda: os._exit(1)).remote()
told = parallel._result(gone, Trial(3, {"training.epochs": 2}, "Loss")).model_dump_json()
# At once, for a thread of Ray's prints too.
sys.stdout.write(told + chr(10))
"""


def test_a_trial_whose_process_is_lost_counts_as_failed(ray: PrivateRay) -> None:
    # In a process of its own: this one may have used another Ray's token.
    done = run_python("-c", LOST, environment=ray.environment)
    assert done.returncode == 0, done.stderr[-3000:]
    [told] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    ended = Ended.model_validate_json(told)
    assert ended.message.startswith("its process was lost: The worker died unexpectedly"), ended.message
    assert (ended.number, ended.values, ended.value, ended.reason) == (3, {"training.epochs": 2}, None, "WorkerLost")
    assert "raise workers.memory or lower search.parallelTrials" in ended.message


@pytest.mark.slow
@pytest.mark.torch
def test_torch_finds_what_numpy_finds(tmp_path: Path, ray: PrivateRay) -> None:
    pytest.importorskip("torch")
    wanted = SEARCH | {"algorithm": "Random", "maxTrials": 2}
    found = {
        engine: searched(
            tmp_path / engine,
            ray,
            engine=engine,
            search=wanted,
            workers={"min": 1, "max": 1, "cpus": 0.5, "gpus": 0},
        )
        for engine in ("NumPy", "Torch")
    }
    for ours, theirs in zip(found["NumPy"]["search"]["top"], found["Torch"]["search"]["top"], strict=True):
        assert theirs["trial"] == ours["trial"]
        assert theirs["value"] == pytest.approx(ours["value"], rel=1e-3)
    assert found["Torch"]["search"]["failed"] == 0
