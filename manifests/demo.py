"""`make demo`: trains and serves the samples line.yaml and iris.yaml here and compares the outcome with others' answers.

It fails (exit code 1) when ours and theirs disagree: the line with ordinary least squares by more than 1e-3, the network for
iris with scikit-learn's by more than two of the test rows, a prediction asked over HTTP with the true species.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.display import Display
from eagleray_operator.local.private_ray import LocalRayError
from eagleray_operator.local.run import load as load_manifests
from eagleray_operator.local.session import LocalRun, failed
from eagleray_runtime.contract.config import TrainingConfig
from manifests.expected import DisagreementError, Iris, check_iris, check_line, features, numbers

SAMPLES = Path(__file__).parent / "samples"


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


async def line(run: LocalRun) -> list[str]:
    """The line's coefficients, read from the model that was saved, beside least squares."""
    job = await found(run, "TrainingJob", "line")
    bundle = run.volumes / "default" / job["status"]["model"]["uri"].removeprefix("pvc://") / "bundle.json"
    [ours] = json.loads(bundle.read_text())["coefficients"]
    at_two = (await infer(run, "line", [[2.0]]))["prediction"][0]
    return check_line(await config_of(run, "line"), ours["weights"]["x"], ours["intercept"], at_two)


async def iris(run: LocalRun) -> list[str]:
    """The network's accuracy beside scikit-learn's, and three predictions."""
    content = (await found(run, "ConfigMap", "iris"))["data"]["iris.csv"]
    rows = Iris(await config_of(run, "iris"), content)
    metrics = (await found(run, "TrainingJob", "iris"))["status"]["evaluation"]["metrics"]
    return check_iris(rows, metrics, await infer(run, "iris", numbers(rows.asked())))


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
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{url}/v2/models/{name}/infer", json={"inputs": [features(rows)]}) as answer,
    ):
        return {output["name"]: output["data"] for output in (await answer.json())["outputs"]}


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (DisagreementError, LocalRayError) as error:
        sys.exit(str(error))
