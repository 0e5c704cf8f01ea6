"""Where models and data are: which store, which Secret, which claim."""

from eagleray_operator.api import names
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children.stores import Store
from eagleray_operator.settings import ModelStore, Settings


def output_of(job: TrainingJob, settings: Settings) -> Store:
    """Where a job's model goes: the named folder, else the platform's store, else a claim of its own."""
    output = job.spec.output
    if output.uri:
        secret = output.secret_ref.name if output.secret_ref else _platform_secret(output.uri, settings.model_store)
        return Store("output", output.uri, secret, read_only=False)
    if settings.model_store:
        folder = f"{job.metadata.namespace}/{job.metadata.name}/{job.metadata.uid[:8]}"
        uri = f"{settings.model_store.uri.rstrip('/')}/{folder}"
        return Store("output", uri, settings.model_store.secret_name, read_only=False)
    return _own_claim("output", job)


def checkpoints_of(job: TrainingJob, settings: Settings) -> Store | None:
    """Where a job's checkpoints go, if not below its output: a repository would keep each of them for good."""
    return _own_claim("checkpoints", job) if output_of(job, settings).uri.startswith("hf://") else None


def needs_claim(job: TrainingJob, settings: Settings) -> bool:
    """Whether the job's model or checkpoints need a claim of its own."""
    unplaced = job.spec.output.uri is None and settings.model_store is None
    return unplaced or checkpoints_of(job, settings) is not None


def rows_at(uri: str | None, job: TrainingJob, settings: Settings) -> Store | None:
    """Where a job's rows come from, if from a URI; whichever part they are for, they have the same Secret."""
    if uri is None:
        return None
    secret = job.spec.data.secret_ref.name if job.spec.data.secret_ref else _platform_secret(uri, settings.model_store)
    return Store("data", uri, secret)


def base_of(job: TrainingJob, settings: Settings) -> Store | None:
    """Where the pretrained model is that a job begins with, if it does with one."""
    pretrained = job.spec.model.pretrained
    if pretrained is None:
        return None
    secret = pretrained.secret_ref.name if pretrained.secret_ref else _platform_secret(pretrained.uri, settings.model_store)
    return Store("base", pretrained.uri, secret)


def code_of(job: TrainingJob, settings: Settings) -> Store | None:
    """Where the code of a network of the user's own is, if at a URI."""
    custom = job.spec.model.custom
    if custom is None or custom.uri is None:
        return None
    secret = custom.secret_ref.name if custom.secret_ref else _platform_secret(custom.uri, settings.model_store)
    return Store("code", custom.uri, secret)


def model_at(uri: str, secret: str | None, settings: Settings) -> Store:
    """Where a deployment's model is."""
    return Store("model", uri, secret or _platform_secret(uri, settings.model_store))


def start_at(uri: str, secret: str | None, settings: Settings) -> Store:
    """Where the model is that a training starts from."""
    return Store("start", uri, secret or _platform_secret(uri, settings.model_store))


def _own_claim(use: str, job: TrainingJob) -> Store:
    return Store(use, f"pvc://{names.model_claim(job.metadata.name)}/{job.metadata.uid[:8]}", read_only=False)


def _platform_secret(uri: str, store: ModelStore | None) -> str | None:
    """The platform's Secret for a URI within its store."""
    if store is None or not uri.startswith(store.uri.rstrip("/") + "/"):
        return None
    return store.secret_name
