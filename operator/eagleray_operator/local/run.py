"""`eagleray run`: from files to trained and served models on this machine."""

import asyncio
import importlib.util
import logging
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.logging import RichHandler

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeploymentSpec
from eagleray_operator.api.trainingjob import TrainingJobSpec
from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.local.display import Display
from eagleray_operator.local.manifests import Document, ManifestError, admit, read
from eagleray_operator.local.private_ray import LocalRayError
from eagleray_operator.local.session import LocalRun, failed
from eagleray_operator.reconcilers import engines
from eagleray_runtime.contract.blocks import Engine, Family

INTERRUPTED = 130


def load(paths: Sequence[str], namespace: str = "default") -> list[Manifest]:
    """The objects of the files with their defaults; raises ManifestError with all that is wrong with them."""
    documents = read(paths, namespace)
    manifests = admit(documents, judges())
    families = {
        (manifest["metadata"]["namespace"], manifest["metadata"]["name"]): Family(manifest["spec"]["model"]["family"])
        for manifest in manifests
        if manifest["kind"] == names.TRAINING_JOB
    }
    problems = [
        problem
        for document, manifest in zip(documents, manifests, strict=True)
        for problem in _lacking(document, manifest, families)
    ]
    if problems:
        raise ManifestError(problems)
    return manifests


def _lacking(document: Document, manifest: Manifest, families: Mapping[tuple[str, str], Family]) -> list[str]:
    """What this machine lacks for an object; `families` are those of the jobs, by namespace and name."""
    if manifest["kind"] == names.TRAINING_JOB:
        engine, _ = engines.for_training(TrainingJobSpec.model_validate(manifest["spec"]))
    elif manifest["kind"] == names.MODEL_DEPLOYMENT:
        spec = ModelDeploymentSpec.model_validate(manifest["spec"])
        job = spec.model.training_job_ref
        engine, _ = engines.for_serving(spec, families.get((manifest["metadata"]["namespace"], job.name)) if job else None)
    else:
        return []
    if engine is Engine.TORCH and importlib.util.find_spec("torch") is None:
        return [
            f"{document.position(('spec',))}: {document.title}: engine Torch needs torch, which is not installed here: "
            "pip install 'eagleray[torch]'"
        ]
    return []


def run(paths: Sequence[str], *, namespace: str = "default", end_when_settled: bool = False, volumes: Path | None = None) -> int:
    """Run until Ctrl-C, or until all is settled; the exit code is 0 if every job succeeded and every deployment is ready."""
    display = Display()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=display.console, show_path=False, markup=False)],
    )
    try:
        manifests = load(paths, namespace)
    except ManifestError as error:
        for problem in error.problems:
            display.console.print(problem, style="red", markup=False)
        return 1
    return asyncio.run(_run(manifests, display, end_when_settled, volumes))


async def _run(manifests: list[Manifest], display: Display, end_when_settled: bool, volumes: Path | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serves = any(manifest["kind"] == names.MODEL_DEPLOYMENT for manifest in manifests)
    with display:
        display.say("Starting a private Ray")
        try:
            async with LocalRun(volumes) as session:
                _note_what_is_for_pods(manifests, display)
                await session.apply(manifests)

                def told() -> bool:
                    display.show(session.views())
                    return stop.is_set()

                await session.until(lambda: told() or session.settled())
                settled = session.settled()
                if settled and serves and not end_when_settled:
                    display.say("Ctrl-C ends it.")
                    await session.until(told)
                views = session.views()
                if volumes is None and any((seen.model_uri or "").startswith("pvc://") for seen in views):
                    display.say("The models go with this run: name spec.output.uri (file:///folder) or --volumes to keep them.")
                display.say("Stopping")
        except LocalRayError as error:
            display.say(str(error), "red")
            return 1
    if not settled:
        return INTERRUPTED
    return 1 if failed(views) else 0


def _note_what_is_for_pods(manifests: list[Manifest], display: Display) -> None:
    """Tell which fields mean nothing where there are no pods."""
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        runtime = spec.get("runtime") or {}
        left = [f"runtime.image {runtime['image']}"] if runtime.get("image") else []
        left += ["runtime.imagePullSecrets"] if runtime.get("imagePullSecrets") else []
        left += [
            f"runtime.env {variable['name']}" for variable in runtime.get("env") or [] if variable["name"].startswith("RAY_")
        ]
        left += ["scheduling"] if spec.get("scheduling") else []
        if left:
            title = f"{manifest['kind']} {manifest['metadata']['name']}"
            display.say(f"{title}  {', '.join(left)} left aside: there are no pods, this machine's Python and Ray run it")
