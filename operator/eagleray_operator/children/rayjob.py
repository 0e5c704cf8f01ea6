"""The RayJob of one attempt of a TrainingJob, and the config that its driver reads."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from eagleray_operator.api import names
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children import metadata, pods, template
from eagleray_operator.children.stores import Store, volumes_of
from eagleray_operator.settings import Settings
from eagleray_runtime.contract import names as runtime_names
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.contract.config import ResourceIdentity, Start, TrainingConfig, WorkerBounds


@dataclass(frozen=True)
class Training:
    """What an attempt needs beside the job itself.

    `data`, `validation` and `test` are the stores of data.uri, data.split.validationUri and data.split.testUri, `base` is that of
    model.pretrained.uri, `code` that of model.custom.uri; `checkpoints` is where they go if not below the output, `start`
    where the model is that training starts from, and `start_digest` what it must have, where that is known.
    """

    engine: Literal[Engine.NUMPY, Engine.TORCH]
    output: Store
    data: Store | None
    image: str
    validation: Store | None = None
    test: Store | None = None
    start: Store | None = None
    start_digest: str | None = None
    base: Store | None = None
    code: Store | None = None
    checkpoints: Store | None = None

    @property
    def stores(self) -> list[Store]:
        """All of them."""
        named = (self.output, self.checkpoints, self.data, self.validation, self.test, self.start, self.base, self.code)
        return [store for store in named if store is not None]


def config(job: TrainingJob, attempt: int, training: Training, settings: Settings) -> TrainingConfig:
    """The driver's config of that attempt."""
    spec = job.spec
    data_file = None
    if spec.data.config_map_ref:
        data_file = f"{runtime_names.DATA_DIRECTORY}/{spec.data.config_map_ref.key}"
    return TrainingConfig(
        resource=ResourceIdentity(
            kind="TrainingJob",
            namespace=job.metadata.namespace,
            name=job.metadata.name,
            uid=job.metadata.uid,
            generation=job.metadata.generation,
        ),
        attempt=attempt,
        engine=training.engine,
        data=spec.data,
        data_location=training.data.location if training.data else None,
        validation_location=training.validation.location if training.validation else None,
        test_location=training.test.location if training.test else None,
        base_location=training.base.location if training.base else None,
        code_location=training.code.location if training.code else None,
        code_directory=runtime_names.CODE_DIRECTORY if _code(job) else None,
        data_file=data_file,
        model=spec.model,
        start=Start(location=training.start.location, digest=training.start_digest) if training.start else None,
        training=spec.training,
        evaluation=spec.evaluation,
        search=spec.search,
        workers=WorkerBounds(min=spec.workers.min, max=spec.workers.most, cpus=spec.workers.cpus, gpus=spec.workers.gpus),
        output=training.output.location,
        checkpoints=(training.checkpoints or training.output).under(f".checkpoints/{job.metadata.uid}"),
        reports_url=settings.reports_url,
    )


def build(
    job: TrainingJob, attempt: int, training: Training, settings: Settings, live: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """RayJob `<name>-<attempt>`; a live one that was made otherwise stays so, but for being suspended.

    KubeRay would restart a job whose head is lost from zero, in silence; the annotation makes it leave the head lost, and
    the next attempt resumes from the checkpoint. For the same reason KubeRay's own retries are off, and a head whose
    container ends does not start again.
    """
    rendered = _render(job, attempt, training, settings)
    if live is None or template.is_that_of(live, rendered):
        return rendered
    kept = template.as_made(live)
    kept["spec"]["suspend"] = job.spec.suspend
    return kept


def _render(job: TrainingJob, attempt: int, training: Training, settings: Settings) -> dict[str, Any]:
    spec = job.spec
    volumes, mounts = volumes_of(training.stores)
    for volume, mount in (
        pods.config_volume(names.training_config(job.metadata.name, attempt)),
        pods.report_token_volume(),
        *_data_volume(job),
        *_code_volume(job),
    ):
        volumes.append(volume)
        mounts.append(mount)
    worker = pods.RayPod(
        image=training.image,
        cpus=spec.workers.cpus,
        memory=spec.workers.memory or settings.worker_memory,
        gpus=spec.workers.gpus,
        environment={
            runtime_names.CONFIG_PATH_ENV: f"{runtime_names.CONFIG_DIRECTORY}/{runtime_names.CONFIG_FILE}",
            runtime_names.REPORT_TOKEN_PATH_ENV: runtime_names.REPORT_TOKEN_PATH,
        },
        volumes=volumes,
        mounts=mounts,
        labels=names.labels(names.TRAINING_JOB, job.metadata.name, attempt=str(attempt)),
        runtime=spec.runtime,
        scheduling=spec.scheduling,
    )
    token = names.ray_token_secret(job.metadata.uid, attempt)
    if training.engine is Engine.NUMPY:
        # One process does all the work: on the head itself, so that no second pod has to start.
        head = replace(worker, restarts=False)
        cluster = pods.cluster(settings=settings, token_secret=token, head=head, head_cpus=pods.logical_cpus(worker.cpus))
    else:
        cluster = pods.cluster(
            settings=settings,
            token_secret=token,
            head=_head(worker, settings),
            head_cpus=0,
            workers=worker,
            bounds=(spec.workers.min, spec.workers.most),
            autoscaling=spec.workers.most > spec.workers.min,
        )
    content = {
        "submissionMode": "HTTPMode",
        "entrypoint": runtime_names.TRAINING_ENTRYPOINT,
        "shutdownAfterJobFinishes": True,
        "backoffLimit": 0,
        "preRunningDeadlineSeconds": spec.run_policy.start_deadline_seconds or settings.start_deadline_seconds,
        "rayClusterSpec": cluster,
    }
    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            **metadata.child(names.TRAINING_JOB, job.metadata, names.ray_job(job.metadata.name, attempt), attempt=str(attempt)),
            "annotations": {"ray.io/disable-provisioned-head-restart": "true"},
        },
        "spec": {**content, "suspend": spec.suspend},
    }
    return template.marked(manifest, content)


def _head(worker: pods.RayPod, settings: Settings) -> pods.RayPod:
    """The head of a Torch job: beside Ray's own processes it runs the driver, which reads and prepares all the rows.

    With Ray's share alone, Ray's memory monitor kills the actors of Ray Train and the job hangs.
    """
    memory = pods.total_memory(settings.head_memory, worker.memory)
    return replace(worker, cpus=settings.head_cpus, memory=memory, gpus=0, restarts=False)


def _data_volume(job: TrainingJob) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    reference = job.spec.data.config_map_ref
    if reference is None:
        return []
    return [
        (
            {"name": "data", "configMap": {"name": reference.name, "items": [{"key": reference.key, "path": reference.key}]}},
            {"name": "data", "mountPath": runtime_names.DATA_DIRECTORY, "readOnly": True},
        )
    ]


def _code(job: TrainingJob) -> str | None:
    """The ConfigMap that holds the code of a network of the user's own."""
    custom = job.spec.model.custom
    return custom.config_map_ref.name if custom is not None and custom.config_map_ref is not None else None


def _code_volume(job: TrainingJob) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    name = _code(job)
    if name is None:
        return []
    return [
        (
            {"name": "code", "configMap": {"name": name}},
            {"name": "code", "mountPath": runtime_names.CODE_DIRECTORY, "readOnly": True},
        )
    ]
