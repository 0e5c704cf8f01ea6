"""One attempt of a TrainingJob, from the configuration to an accepted report."""

import logging
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from eagleray_runtime.bundle.coefficients import original_units
from eagleray_runtime.bundle.manifest import MANIFEST, Lineage, Manifest, example_request, signature
from eagleray_runtime.bundle.plots import Plot
from eagleray_runtime.bundle.reading import read_manifest
from eagleray_runtime.bundle.writing import saved_model, write_bundle
from eagleray_runtime.contract.blocks import Engine, Loading
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.names import CONFIG_DIRECTORY, CONFIG_FILE, CONFIG_PATH_ENV
from eagleray_runtime.contract.reports import (
    Choice,
    FailureReason,
    FailureReport,
    Metric,
    ProgressReport,
    ResultReport,
    SavedModel,
    Stage,
)
from eagleray_runtime.data import survey
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import Cleaned, clean, folds, prepare, read_rows
from eagleray_runtime.errors import ModelInvalid, RuntimeFailure
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.predictor import evaluating
from eagleray_runtime.reports import Reporter, Stopped, UndeliveredError
from eagleray_runtime.storage import Store
from eagleray_runtime.training.code import code_of
from eagleray_runtime.training.crossvalidation import Scores, cross_validate
from eagleray_runtime.training.curves import plots
from eagleray_runtime.training.engines import below, train
from eagleray_runtime.training.estimate import after_training, estimate
from eagleray_runtime.training.evaluation import answers, defined, evaluate
from eagleray_runtime.training.metrics import Pieces
from eagleray_runtime.training.outcome import Outcome
from eagleray_runtime.training.plan import Plan, decide
from eagleray_runtime.training.progress import Progress, last_losses
from eagleray_runtime.training.search import search
from eagleray_runtime.training.starting import read_start

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 1000


def main() -> int:
    """Run the attempt that `EAGLERAY_CONFIG` describes; 0 if its bundle is complete and reported."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    path = os.environ.get(CONFIG_PATH_ENV, f"{CONFIG_DIRECTORY}/{CONFIG_FILE}")
    try:
        config = TrainingConfig.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        return _ended(f"{FailureReason.CONTAINER_FAILED}: {path} is not a training configuration: {error}")
    return attempt(config)


def attempt(config: TrainingConfig) -> int:
    """Run one attempt and report its end; the exit status of the process."""
    reporter = Reporter(config.reports_url)
    try:
        result = run(config, Progress(config, reporter))
        reporter.deliver(result)
    except (Stopped, UndeliveredError) as error:
        return _ended(f"{type(error).__name__}: {error}")
    except RuntimeFailure as failure:
        return _failed(config, reporter, failure.reason, failure.message)
    except MemoryError as error:
        words = f"{type(error).__name__}: {error}. Raise workers.memory, lower training.batchSize, or set data.loading: Stream"
        return _failed(config, reporter, FailureReason.OUT_OF_MEMORY, words)
    except ValidationError as error:
        traceback.print_exc()
        if (overflow := _overflow(error)) is not None:
            return _failed(config, reporter, FailureReason.DATA_INVALID, overflow)
        return _failed(config, reporter, FailureReason.CONTAINER_FAILED, f"{type(error).__name__}: {error}")
    except Exception as error:
        # Whatever else ends the attempt is told to the user in its own words too.
        traceback.print_exc()
        return _failed(config, reporter, FailureReason.CONTAINER_FAILED, f"{type(error).__name__}: {error}")
    log.info("model %s saved at %s", result.model.digest, result.model.uri)
    return 0


def run(config: TrainingConfig, progress: Progress) -> ResultReport:
    """Train, evaluate and save, or find the bundle that an earlier attempt has completed.

    Raises:
        RuntimeFailure: the attempt ends without a model.
        Stopped: nobody waits for this attempt any more.
    """
    progress.stage(Stage.PREPARING)
    output = Store(config.output)
    checkpoints = Store(below(config.checkpoints, config.resource.uid))
    if (finished := _finished(config, output)) is not None:
        log.info("an earlier attempt has completed the bundle at %s: only reporting it", output.uri)
        return finished
    # Folds, trials or checkpoints that were left here: also where attempts are not counted.
    progress.resumes = bool(checkpoints.find_below())
    found: list[Choice] = []
    cleaned = None
    if config.data.loading is Loading.STREAM:
        dataset = survey.load(config, code_of(config, checkpoints))
    else:
        rows = replace(read_rows(config), start=read_start(config), code=code_of(config, checkpoints))
        if config.search is not None:
            config, found = search(config, config.search, rows, checkpoints, progress)
        cleaned = clean(config, rows)
        dataset = prepare(config, cleaned, cleaned.parts)
    plan, chosen = decide(config, dataset)
    progress.chosen = [*found, *dataset.chosen, *chosen]
    progress.epochs = config.training.epochs
    wanted = config.evaluation.cross_validation
    trainings = 1 if wanted is None else wanted.folds + 1
    counted = dataset.counted
    needs = estimate(plan, config.engine, config.workers, counted, trainings)
    progress.estimated(needs, after_training(plan, counted))
    progress.stage(Stage.TRAINING)
    over_folds = _cross_validate(config, cleaned, progress)
    outcome = train(config, plan, dataset, progress)
    progress.trained(outcome)
    progress.stage(Stage.EVALUATING)
    draft = _draft(config, plan, dataset, outcome, over_folds, progress)
    progress.stage(Stage.SAVING)
    saved = write_bundle(output, draft, outcome.parameters, _plots(plan, dataset, outcome), dataset.tokenizer)
    checkpoints.remove_folder()
    result = _result(config, draft, saved, workers=outcome.workers, resumed_from=outcome.resumed_from)
    told = result.progress.model_copy(update={"spent": progress.spent(0.0, 0.0), "estimate": progress.judged()})
    return result.model_copy(update={"progress": told})


def _cross_validate(config: TrainingConfig, cleaned: Cleaned | None, progress: Progress) -> list[Metric]:
    wanted = config.evaluation.cross_validation
    if wanted is None or cleaned is None:
        return []

    def score(number: int, fold: Dataset, place: Location) -> Scores:
        plan, _ = decide(config, fold)
        progress.fold = number
        outcome = train(config.model_copy(update={"checkpoints": place}), plan, fold, progress)
        progress.measured(outcome)
        predict = evaluating(plan.architecture, outcome.parameters)
        return defined(answers(predict, plan.architecture.head, fold, fold.validation), plan.metrics)

    metrics = cross_validate(folds(config, cleaned, wanted.folds), score, below(config.checkpoints, config.resource.uid))
    progress.fold = wanted.folds
    return metrics


def _draft(
    config: TrainingConfig, plan: Plan, dataset: Dataset, outcome: Outcome, over_folds: list[Metric], progress: Progress
) -> Manifest:
    """The manifest but for its files, with the metrics of the finished model."""
    architecture = plan.architecture
    predict = evaluating(architecture, outcome.parameters)
    coefficients = None
    if isinstance(architecture, Dense) and not architecture.hidden:
        coefficients = original_units(
            dataset.preparation,
            outcome.parameters["layers.0.weight"].astype(np.float64),
            outcome.parameters["layers.0.bias"].astype(np.float64),
            # The one output of two classes is the logit of the second.
            dataset.classes[-architecture.outputs :] or [dataset.target],
        )
    resource = config.resource
    return Manifest(
        family=config.model.family,
        task=dataset.task,
        engine="NumPy" if config.engine is Engine.NUMPY else "Torch",
        architecture=architecture,
        signature=signature(dataset.preparation, architecture.head, dataset.classes, config.data.sequence),
        preparation=dataset.preparation,
        sequence=config.data.sequence,
        target=dataset.target,
        classes=dataset.classes,
        metrics=[
            *evaluate(predict, architecture.head, dataset, plan.metrics, config.evaluation.confidence_percent, plan.seed),
            *over_folds,
        ],
        confidence_percent=config.evaluation.confidence_percent,
        history=outcome.history,
        coefficients=coefficients,
        lineage=Lineage(
            kind=resource.kind,
            namespace=resource.namespace,
            name=resource.name,
            uid=resource.uid,
            generation=resource.generation,
            seed=plan.seed,
            split_seed=config.data.split.seed,
            started_from=plan.start,
        ),
        data=dataset.report,
        chosen=progress.chosen,
        search=progress.search,
        epochs=outcome.epochs,
        steps=outcome.steps,
        weights="pending",
        files={},
        example=example_request(dataset.preparation, dataset.example),
    )


def _plots(plan: Plan, dataset: Dataset, outcome: Outcome) -> list[Plot]:
    """Pictures of what the model says of the test part, or of the validation part where there is none."""
    name, part = ("test", dataset.test) if dataset.test.rows else ("validation", dataset.validation)
    if not part.rows:
        return []
    predict = evaluating(plan.architecture, outcome.parameters)
    of = answers(predict, plan.architecture.head, dataset, part)
    return [] if isinstance(of, Pieces) else plots(of, name, dataset.classes, dataset.target)


def _finished(config: TrainingConfig, output: Store) -> ResultReport | None:
    """The report of a bundle that an earlier attempt of the same job has completed."""
    if not output.exists(MANIFEST):
        return None
    try:
        manifest, content = read_manifest(output)
    except ModelInvalid:
        # Somebody else's file; it is replaced when this job's bundle is complete.
        return None
    if manifest.lineage.uid != config.resource.uid:
        return None
    return _result(config, manifest, saved_model(output.uri, manifest, content), workers=1, resumed_from=manifest.epochs)


def _result(config: TrainingConfig, manifest: Manifest, saved: SavedModel, *, workers: int, resumed_from: int) -> ResultReport:
    """The report of a complete bundle; all but workers and resumption stands in its manifest."""
    progress = ProgressReport(
        resource=config.resource,
        attempt=config.attempt,
        stage=Stage.SAVING,
        epoch=manifest.epochs,
        epochs=manifest.epochs,
        step=manifest.steps,
        percent=100.0,
        estimated_remaining_seconds=0.0,
        workers=workers,
        resumed_from_epoch=resumed_from,
        metrics=last_losses(manifest.history),
        history=manifest.history,
        chosen=manifest.chosen,
        search=manifest.search,
    )
    return ResultReport(
        resource=config.resource,
        attempt=config.attempt,
        model=saved,
        data=manifest.data,
        metrics=manifest.metrics,
        chosen=manifest.chosen,
        progress=progress,
    )


def _overflow(error: ValidationError) -> str | None:
    """What to tell where a number was to be kept that is not finite any more; None if another kind of value was refused."""
    found = error.errors()
    if any(each["type"] != "finite_number" for each in found):
        return None
    where = ".".join(map(str, (error.title, *found[0]["loc"])))
    return (
        f"numbers of the rows are too large to be computed with ({where} became {found[0]['input']}): look for wild values, or "
        "give columns and target in a larger unit"
    )


def _failed(config: TrainingConfig, reporter: Reporter, reason: FailureReason, message: str) -> int:
    cut = message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 3]}..."
    report = FailureReport(resource=config.resource, attempt=config.attempt, reason=reason, message=cut)
    try:
        reporter.deliver(report)
    except (Stopped, UndeliveredError) as error:
        log.warning("the failure could not be reported: %s", error)
    return _ended(f"{reason}: {cut}")


def _ended(words: str) -> int:
    """The cause is the last line of stderr, where `kubectl logs` and Ray's job message end."""
    sys.stdout.flush()
    sys.stderr.write(" ".join(words.split()) + "\n")
    sys.stderr.flush()
    return 1
