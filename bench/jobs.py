"""What the benchmarks train, as jobs of one worker, and the rows that they learn from as scikit-learn takes them."""

from pathlib import Path
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.dataset import AnyPart


def job(folder: Path, *, data: dict[str, Any], model: dict[str, Any], training: dict[str, Any], **fields: Any) -> TrainingConfig:
    """Configuration of a job by engine NumPy, unless `fields` say otherwise; what it leaves goes to the folder."""
    return TrainingConfig.model_validate(
        {
            "resource": {"kind": "TrainingJob", "namespace": "bench", "name": "bench", "uid": "uid", "generation": 1},
            "attempt": 1,
            "engine": "NumPy",
            "data": data,
            "model": model,
            "training": training,
            "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
            "output": {"uri": f"file://{folder}/model"},
            "checkpoints": {"uri": f"file://{folder}/checkpoints"},
        }
        | fields
    )


def pictures(folder: Path, images: AnyArray, labels: AnyArray) -> dict[str, Any]:
    """What a job learns from of pictures [rows, height, width, channels] and what they show [rows]: all are for training."""
    np.savez(folder / "rows.npz", image=images, label=labels)
    split = {"validationPercent": 0, "testPercent": 0}
    data = {"configMapRef": {"name": "rows", "key": "rows.npz"}, "target": "label", "split": split}
    return {"data": data, "dataFile": str(folder / "rows.npz")}


def rows(part: AnyPart) -> tuple[AnyArray, AnyArray]:
    """The prepared rows of a part that is in memory, flat [rows, numbers], and their targets [rows]."""
    [(x, y)] = part.pieces()
    return x.reshape(len(x), -1), y
