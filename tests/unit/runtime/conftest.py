"""Makers shared by the runtime's tests."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV
from tests.support.torch_runs import TwoWorkers


@pytest.fixture(autouse=True)
def _local_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW_FILE_URIS_ENV, "1")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Location]:
    return lambda name: Location(uri=f"file://{tmp_path}/{name}")


@pytest.fixture(scope="session")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoWorkers]:
    """Two processes that train together, for all tests that need them."""
    workers = TwoWorkers(tmp_path_factory.mktemp("workers") / "stderr")
    yield workers
    workers.close()


ConfigMaker = Callable[..., TrainingConfig]


@pytest.fixture
def job(tmp_path: Path) -> ConfigMaker:
    """Configuration of a job; rows are CSV lines, `training` and `data` are merged over the defaults."""

    def make(
        rows: Sequence[str] | None = None,
        *,
        family: str = "LinearRegression",
        data: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        **fields: Any,
    ) -> TrainingConfig:
        source: dict[str, Any] = {"sample": "LinearRegression"}
        if rows is not None:
            (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
            source = {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"}
            fields.setdefault("dataFile", str(tmp_path / "rows.csv"))
        config = {
            "resource": {"kind": "TrainingJob", "namespace": "team", "name": "job", "uid": "uid-1", "generation": 1},
            "attempt": 1,
            "engine": "NumPy",
            "data": source | (data or {}),
            "model": {"family": family} | (model or {}),
            "training": training or {},
            "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
            "output": {"uri": f"file://{tmp_path}/model"},
            "checkpoints": {"uri": f"file://{tmp_path}/checkpoints"},
        }
        return TrainingConfig.model_validate(config | fields)

    return make


@pytest.fixture
def digits(job: ConfigMaker, tmp_path: Path) -> ConfigMaker:
    """Configuration of a job that learns scikit-learn's digits, as images or as rows of a table."""
    from sklearn.datasets import load_digits

    def make(
        family: str = "ConvolutionalNetwork",
        rows: int | None = None,
        training: dict[str, Any] | None = None,
        workers: int = 1,
        **shape: Any,
    ) -> TrainingConfig:
        found = load_digits()
        name = "images" if family == "ConvolutionalNetwork" else "data"
        path = tmp_path / f"{name}-{rows}.npz"
        np.savez(path, **{name: found[name][:rows]}, digit=found.target[:rows])
        model = {f"{family[0].lower()}{family[1:]}": shape} if shape else {}
        bounds = {"min": workers, "max": workers, "cpus": 1, "gpus": 0}
        config = job(family=family, model=model, training=training, engine="Torch", dataFile=str(path), workers=bounds)
        source = {"configMapRef": {"name": "digits", "key": "digits.npz"}, "target": "digit"}
        return config.model_copy(update={"data": blocks.Data.model_validate(source)})

    return make
