"""`make demo`: trains and serves the samples line.yaml and iris.yaml here and compares the outcome with others' answers.

It fails (exit code 1) when ours and theirs disagree: the line with ordinary least squares by more than 1e-3, the network for
iris with scikit-learn's by more than two of the test rows, a prediction asked over HTTP with the true species.
"""

import asyncio
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.display import Display
from eagleray_operator.local.private_ray import LocalRayError
from eagleray_operator.local.run import load as load_manifests
from eagleray_operator.local.session import LocalRun, failed
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data import sample
from eagleray_runtime.data.dataset import load as load_dataset
from eagleray_runtime.data.splitting import split_rows

SAMPLES = Path(__file__).parent / "samples"
LINE_TOLERANCE = 1e-3
IRIS_ROWS_TOLERANCE = 2


class DisagreementError(Exception):
    """Ours and theirs are not the same."""


async def main() -> int:
    """Run the demo; the exit code."""
    began = time.monotonic()
    manifests = load_manifests([str(SAMPLES / "line.yaml"), str(SAMPLES / "iris.yaml")])
    with Display() as display:
        display.say("Starting a private Ray")
        async with LocalRun() as run:
            await run.apply(manifests)

            def settled() -> bool:
                display.show(run.views())
                return run.settled()

            await run.until(settled)
            if failed(run.views()):
                return 1
            lines = [*await line(run), *await iris(run)]
    print("\n".join(lines))  # noqa: T201
    print(f"\nAll as it should be, after {time.monotonic() - began:.0f} s.")  # noqa: T201
    return 0


async def line(run: LocalRun) -> Iterator[str]:
    """The line's coefficients, read from the model that was saved, beside least squares on the same training rows."""
    job = await found(run, "TrainingJob", "line")
    config = await config_of(run, "line")
    table = sample.linear_regression(config.data.split.seed)
    rows = split_rows(table.rows, config.data.split, None).training
    w, b = np.polyfit(table["x"].values[rows], table["y"].values[rows], 1)
    bundle = run.volumes / "default" / job["status"]["model"]["uri"].removeprefix("pvc://") / "bundle.json"
    [ours] = json.loads(bundle.read_text())["coefficients"]
    pairs = {"w": (ours["weights"]["x"], w), "b": (ours["intercept"], b)}
    for name, (mine, theirs) in pairs.items():
        if not abs(mine - theirs) <= LINE_TOLERANCE:
            raise DisagreementError(f"line: {name} is {mine}, least squares says {theirs}")
    at_two = (await infer(run, "line", [[2.0]]))["prediction"][0]
    if not abs(at_two - (2 * w + b)) <= 3 * LINE_TOLERANCE:
        raise DisagreementError(f"line: the served model says {at_two} at x = 2, least squares {2 * w + b}")
    return iter(
        [
            "",
            f"line: y = w x + b through the same {len(rows)} training rows (seed {config.data.split.seed})",
            "        Eagleray   least squares",
            *(f"  {name}   {mine:9.6f}   {theirs:9.6f}" for name, (mine, theirs) in pairs.items()),
            f"  asked over HTTP at x = 2: {at_two:.6f}",
        ]
    )


async def iris(run: LocalRun) -> Iterator[str]:
    """The network's accuracy beside scikit-learn's for the same network, split and training, and three predictions."""
    job = await found(run, "TrainingJob", "iris")
    config = await config_of(run, "iris")
    content = (await found(run, "ConfigMap", "iris"))["data"]["iris.csv"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "iris.csv"
        file.write_text(content)
        data = load_dataset(config.model_copy(update={"data_file": str(file)}))
    theirs = MLPClassifier(
        hidden_layer_sizes=(64,),
        learning_rate_init=0.001,
        batch_size=32,
        max_iter=config.training.epochs,
        n_iter_no_change=config.training.epochs,
        random_state=config.training.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(data.training.x, data.training.y)
    reference = float(theirs.score(data.test.x, data.test.y))
    [accuracy] = [
        metric["value"]
        for metric in job["status"]["evaluation"]["metrics"]
        if (metric["name"], metric["part"]) == ("Accuracy", "Test")
    ]
    if abs(accuracy - reference) * data.test.rows > IRIS_ROWS_TOLERANCE + 0.01:
        raise DisagreementError(f"iris: accuracy {accuracy}, scikit-learn {reference}")

    table = [row.split(",") for row in content.split()[1:]]
    species = np.array([row[-1] for row in table], dtype=object)
    test = split_rows(len(table), config.data.split, species).test
    asked = [table[next(row for row in test if species[row] == name)] for name in data.classes]
    answer = await infer(run, "iris", [[float(value) for value in row[:-1]] for row in asked])
    chances = np.reshape(answer["probabilities"], (3, 3)).max(axis=1)
    wrong = [row for row, label in zip(asked, answer["label"], strict=True) if row[-1] != label]
    if wrong:
        raise DisagreementError(f"iris: predicted {answer['label']} for {asked}")
    return iter(
        [
            "",
            f"iris: accuracy on the {data.test.rows} test rows that neither has seen",
            f"  Eagleray {accuracy:.4f}   scikit-learn's MLPClassifier {reference:.4f}",
            "  asked over HTTP:",
            *(
                f"  {', '.join(row[:-1])} cm -> {label} ({chance:.2f}), which it is"
                for row, label, chance in zip(asked, answer["label"], chances, strict=True)
            ),
        ]
    )


async def found(run: LocalRun, kind: str, name: str) -> Manifest:
    """The live object of that name."""
    live = await run.cluster.get(Ref(kind, "default", name))
    if live is None:
        raise LookupError(f"there is no {kind} {name}")
    return live


async def config_of(run: LocalRun, job: str) -> TrainingConfig:
    """The config that the job's first attempt was run with."""
    return TrainingConfig.model_validate_json((await found(run, "ConfigMap", f"{job}-1-config"))["data"]["config.json"])


async def infer(run: LocalRun, name: str, rows: list[list[float]]) -> dict[str, Any]:
    """The model's outputs by name for rows of its numeric columns, asked as any client of the Open Inference Protocol does."""
    url = (await found(run, "ModelDeployment", name))["status"]["url"]
    features = {
        "name": "features",
        "shape": [len(rows), len(rows[0])],
        "datatype": "FP64",
        "data": [value for row in rows for value in row],
    }
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{url}/v2/models/{name}/infer", json={"inputs": [features]}) as answer,
    ):
        return {output["name"]: output["data"] for output in (await answer.json())["outputs"]}


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (DisagreementError, LocalRayError) as error:
        sys.exit(str(error))
