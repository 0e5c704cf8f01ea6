"""Makers shared by the runtime's tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV


@pytest.fixture(autouse=True)
def _local_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW_FILE_URIS_ENV, "1")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Location]:
    return lambda name: Location(uri=f"file://{tmp_path}/{name}")


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
