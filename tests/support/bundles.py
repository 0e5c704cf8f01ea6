"""Real bundles, trained in a moment on this machine by the runtime itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROWS = "width,height,kind\n" + "".join(
    f"{x + column / 10},{y + row / 10},{kind}\n"
    for kind, x, y in (("iris", 0, 0), ("rose", 4, 0), ("tulip", 0, 4))
    for row in range(5)
    for column in range(6)
)
"""90 flowers of three kinds, which any model tells apart."""


def train_bundle(scratch: Path, folder: Path) -> None:
    """Write the bundle of a classifier of flowers (columns width and height) into a folder."""
    rows, path = scratch / "rows.csv", scratch / "training.json"
    rows.write_text(ROWS)
    config = {
        "resource": {"kind": "TrainingJob", "namespace": "team", "name": "flowers", "uid": "uid-1", "generation": 1},
        "attempt": 1,
        "engine": "NumPy",
        "data": {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "kind"},
        "dataFile": str(rows),
        "model": {"family": "LogisticRegression"},
        "training": {"epochs": 60, "optimizer": {"type": "Adam", "learningRate": 0.05}},
        "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
        "output": {"uri": f"file://{folder}"},
        "checkpoints": {"uri": f"file://{scratch}/checkpoints"},
    }
    path.write_text(json.dumps(config))
    environment = os.environ | {"EAGLERAY_ALLOW_FILE_URIS": "1", "EAGLERAY_CONFIG": str(path)}
    words = [sys.executable, "-m", "eagleray_runtime.training"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def flip_a_bit(bundle: Path) -> Path:
    """Change the last bit of a bundle's weights; returns their file."""
    [weights] = bundle.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return weights
