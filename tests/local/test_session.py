"""One private Ray, many resources: what goes wrong says why, and what changes is followed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.manifests import admit, parse
from eagleray_operator.local.session import LocalRun
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]

JOB = """
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {{name: {name}}}
spec:
  data: {data}
  model: {model}
  training: {{epochs: {epochs}}}
  {more}
"""
DEPLOYMENT = """
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec: {spec}
"""
WIDE = [256, 256]
ROWS_OF_A_LONG_REQUEST = 1000
"""Rows that keep a network of that width busy for longer than the event loop of a replica may be held."""

ROWS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: rows}
data:
  rows.csv: "a,b\\n1,2\\n2,4\\n3,6\\n4,8\\n5,10\\n6,12\\n7,14\\n8,16\\n9,18\\n10,20\\n"
  nan.csv: "a,b\\n1,2\\n2,NaN\\n3,6\\n4,8\\n5,10\\n6,12\\n7,14\\n8,16\\n9,18\\n10,20\\n"
"""


def objects(*texts: str) -> list[Manifest]:
    documents = parse("\n---\n".join(texts), "test.yaml")
    for document in documents:
        document.manifest["metadata"]["namespace"] = "default"
    return admit(documents, judges())


def job(
    name: str,
    data: str = "{sample: LinearRegression}",
    model: str = "{family: LinearRegression}",
    epochs: int = 20,
    more: str = "",
) -> str:
    return JOB.format(name=name, data=data, model=model, epochs=epochs, more=more)


def deployment(name: str, spec: str) -> str:
    return DEPLOYMENT.format(name=name, spec=spec)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def session(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalRun]:
    async with LocalRun(tmp_path_factory.mktemp("session") / "volumes") as session:
        yield session


@pytest_asyncio.fixture(loop_scope="module")
async def run(session: LocalRun) -> AsyncIterator[LocalRun]:
    """The one private Ray, with nothing on it."""
    yield session
    for kind in ("ModelDeployment", "TrainingJob", "ConfigMap"):
        for left in session.cluster.of_kind(kind):
            await session.cluster.delete(Ref.of(left), left["metadata"]["uid"])
    await until(session, lambda: not session.cluster.of_kind("RayService") and not session.cluster.of_kind("RayJob"))


async def until(run: LocalRun, predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await run.until(predicate)


def condition(run: LocalRun, kind: str, name: str, type_: str) -> dict[str, Any]:
    for resource in run.cluster.of_kind(kind):
        if resource["metadata"]["name"] == name:
            for found in (resource.get("status") or {}).get("conditions") or []:
                if found["type"] == type_:
                    return dict(found)
    return {"status": "", "reason": "", "message": ""}


def replicas(run: LocalRun, name: str) -> dict[str, int]:
    [resource] = [found for found in run.cluster.of_kind("ModelDeployment") if found["metadata"]["name"] == name]
    return dict((resource.get("status") or {}).get("replicas") or {})


async def change(run: LocalRun, kind: str, name: str, **spec: Any) -> None:
    live = await run.cluster.get(Ref(kind, "default", name))
    assert live is not None
    kept = {key: value for key, value in {**live["spec"], **spec}.items() if value is not None}
    await run.cluster.put({**live, "spec": kept, "metadata": {"name": name, "namespace": "default"}})


@pytest.mark.slow
async def test_each_failure_tells_its_cause(run: LocalRun, tmp_path: Path) -> None:
    model = tmp_path / "model"
    await run.apply(
        objects(
            ROWS,
            job("kept", more=f"output: {{uri: 'file://{model}'}}"),
            job("column", "{configMapRef: {name: rows, key: rows.csv}, target: bb}"),
            job("nan", "{configMapRef: {name: rows, key: nan.csv}, target: b}"),
            job("uri", "{uri: 'file:///nowhere/rows.csv', target: b}"),
            job("key", "{configMapRef: {name: rows, key: rows.cvs}, target: b}"),
            job("map", "{configMapRef: {name: none, key: rows.csv}, target: b}"),
            job("claim", "{uri: 'pvc://none/rows.csv', target: b}"),
            job("large", more="workers: {cpus: 999}"),
            deployment("follower", "{model: {trainingJobRef: {name: nan}}}"),
        )
    )
    await until(run, run.settled)
    expected = {
        "column": ("DataInvalid", "the data has no column bb: did you mean b?"),
        "nan": ("DataInvalid", "target column b has no value (empty or NaN) in row 2"),
        "uri": ("StoreRefused", "file:///nowhere/rows.csv: no such file"),
        "key": ("ReferenceNotFound", "ConfigMap rows has no key rows.cvs; it has nan.csv, rows.csv"),
        "map": ("ReferenceNotFound", "ConfigMap none is not in this namespace"),
        "claim": ("StartDeadlineExceeded", 'persistentvolumeclaim "none" not found'),
        "large": ("StartDeadlineExceeded", "needs 999 CPUs"),
        "kept": ("Completed", "Saved sha256:"),
    }
    found = {name: condition(run, "TrainingJob", name, "Succeeded") for name in expected}
    assert {name: told["reason"] for name, told in found.items()} == {name: reason for name, (reason, _) in expected.items()}
    for name, (_, words) in expected.items():
        assert words in found[name]["message"]
    assert "TrainingJob nan failed by DataInvalid" in condition(run, "ModelDeployment", "follower", "Ready")["message"]

    flip_a_bit_of_the_weights(model)
    await run.apply(objects(deployment("flipped", f"{{model: {{uri: 'file://{model}'}}}}")))
    await until(run, run.settled)
    told = condition(run, "ModelDeployment", "flipped", "Ready")
    assert (told["status"], told["reason"]) == ("False", "DigestMismatch")
    assert ".safetensors is not the file that was written" in told["message"]


def flip_a_bit_of_the_weights(model: Path) -> None:
    [path] = model.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.slow
async def test_a_deployment_follows_its_spec_and_its_load(run: LocalRun) -> None:
    await run.apply(
        objects(
            job("line", model=f"{{family: MultilayerPerceptron, multilayerPerceptron: {{hiddenLayers: {WIDE}}}}}"),
            deployment("line", "{model: {trainingJobRef: {name: line}}, replicas: 2}"),
        )
    )
    await until(run, run.settled)
    assert condition(run, "ModelDeployment", "line", "Ready")["status"] == "True"
    await until(run, lambda: replicas(run, "line") == {"desired": 2, "current": 2, "ready": 2})

    await change(run, "ModelDeployment", "line", replicas=1)
    await until(run, lambda: replicas(run, "line") == {"desired": 1, "current": 1, "ready": 1})

    await change(run, "ModelDeployment", "line", replicas=0)
    await until(run, lambda: condition(run, "ModelDeployment", "line", "Ready")["reason"] == "SwitchedOff")
    await until(run, lambda: not run.cluster.of_kind("RayService"))

    scaling = {"maxReplicas": 2, "targetOngoingRequests": 1, "upscaleDelaySeconds": 1, "downscaleDelaySeconds": 2}
    await change(run, "ModelDeployment", "line", replicas=None, autoscaling=scaling)
    await until(run, run.settled)
    [view] = [view for view in run.views() if view.kind == "ModelDeployment"]
    assert view.url is not None
    load = asyncio.create_task(ask_without_end(f"{view.url}/v2/models/line/infer"))
    try:
        await until(run, lambda: replicas(run, "line")["ready"] == 2)
    finally:
        load.cancel()
    await until(run, lambda: replicas(run, "line") == {"desired": 1, "current": 1, "ready": 1})
    [resource] = run.cluster.of_kind("ModelDeployment")
    steps = [(step["from"], step["to"]) for step in resource["status"]["scaling"]]
    assert steps[:2] == [(2, 1), (1, 2)]


async def ask_without_end(url: str) -> None:
    rows = [float(number) for number in range(ROWS_OF_A_LONG_REQUEST)]
    body = {"inputs": [{"name": "x", "shape": [len(rows)], "datatype": "FP64", "data": rows}]}

    async def ask(session: aiohttp.ClientSession) -> None:
        while True:
            async with session.post(url, json=body) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(ask(session))


@pytest.mark.slow
async def test_a_job_that_is_suspended_gives_its_process_back_and_goes_on_from_its_checkpoint(run: LocalRun) -> None:
    await run.apply(objects(job("slow", epochs=2_000_000)))
    await until(run, lambda: condition(run, "TrainingJob", "slow", "Progressing")["reason"] == "Training")

    def epoch() -> int:
        [resource] = run.cluster.of_kind("TrainingJob")
        return int((resource["status"].get("progress") or {}).get("epoch", 0))

    await until(run, lambda: epoch() > 0)
    await change(run, "TrainingJob", "slow", suspend=True)
    await until(run, lambda: condition(run, "TrainingJob", "slow", "Suspended")["status"] == "True")
    await change(run, "TrainingJob", "slow", suspend=False)
    await until(run, lambda: condition(run, "TrainingJob", "slow", "Progressing")["reason"] == "Training")
    live = await run.cluster.get(Ref("TrainingJob", "default", "slow"))
    assert live is not None
    await run.cluster.delete(Ref.of(live), live["metadata"]["uid"])
    await until(run, lambda: not run.cluster.of_kind("RayJob"))


@pytest.mark.slow
async def test_a_search_that_is_suspended_goes_on_with_the_trials_that_are_left(run: LocalRun) -> None:
    drawn = "{field: training.optimizer.learningRate, range: {min: 0.001, max: 0.1, scale: Log}}"
    more = f"workers: {{cpus: 2}}\n  search: {{maxTrials: 8, parallelTrials: 2, parameters: [{drawn}]}}"
    seen: list[tuple[int, int]] = []

    def status() -> dict[str, Any]:
        [resource] = run.cluster.of_kind("TrainingJob")
        return dict(resource.get("status") or {})

    def note(_event: str, manifest: Manifest) -> None:
        if manifest["kind"] == "TrainingJob":
            told = manifest.get("status") or {}
            seen.append((told.get("progress", {}).get("trial", 0), told.get("search", {}).get("running", 0)))

    run.cluster.watch(note)
    await run.apply(objects(job("search", epochs=6000, more=more)))
    await until(run, lambda: any(trial > 2 for trial, _ in seen))
    assert max(running for _, running in seen) == 2
    await change(run, "TrainingJob", "search", suspend=True)
    await until(run, lambda: condition(run, "TrainingJob", "search", "Suspended")["status"] == "True")
    assert status()["search"]["running"] == 0
    reached = max(trial for trial, _ in seen)
    seen.clear()
    await change(run, "TrainingJob", "search", suspend=False)
    await until(run, lambda: condition(run, "TrainingJob", "search", "Complete")["status"] == "True")
    # None is told once all have ended.
    assert {trial for trial, _ in seen} <= {0, *range(reached, 9)}, "a trial began anew"
    search = status()["search"]
    assert (search["trials"], search["running"], search["failed"], len(search["top"])) == (8, 0, 0, 5)
    chosen = {choice["field"]: choice for choice in status()["chosen"]}
    assert chosen["training.optimizer.learningRate"]["value"] == search["top"][0]["values"]["training.optimizer.learningRate"]
    assert "the best of 8 trials by Loss on the validation part" in chosen["training.optimizer.learningRate"]["reason"]
