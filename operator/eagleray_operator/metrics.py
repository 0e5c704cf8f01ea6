"""What the operator tells Prometheus: its own work, and the state of every resource.

Two sources, one page. `Metrics` counts what the controller does, through plain methods. `ResourceCollector` computes the state
of the resources from the controller's cache when Prometheus asks, so that nothing has to be deleted when a resource goes.
Every replica has a cache, but only the leader acts: only the leader shows resources, so that sums over replicas are right.
docs/reference/metrics.md lists every name.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from importlib import metadata
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Manifest

RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
START_BUCKETS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
JOB_BUCKETS = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 172800, 604800)

GPU_RESOURCE = "nvidia.com/gpu"
RESOURCE = ("namespace", "name")


class Resources(Protocol):
    """The controller's cache, as far as metrics need it."""

    def of_kind(self, kind: str) -> Iterable[Manifest]:
        """Every live object of that kind."""


class Metrics:
    """Instruments of the controller; one method for each thing that can happen."""

    def __init__(self, registry: CollectorRegistry, version: str | None = None) -> None:
        """`version` is the installed one unless given."""
        self.registry = registry
        self._leading = False
        ProcessCollector(registry=registry)
        Info("eagleray_build", "Version of the operator.", registry=registry).info(
            {"version": version or metadata.version("eagleray")}
        )
        self._leader = Gauge("eagleray_leader", "1 on the replica that reconciles, else 0.", registry=registry)
        self._reconciles = Counter(
            "eagleray_reconcile",
            "Reconciles by result: success, conflict (the object changed meanwhile) or error.",
            ["kind", "result"],
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "eagleray_reconcile_seconds",
            "Time that a reconcile took, with its writes.",
            ["kind"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self._depth = Gauge("eagleray_queue_depth", "Resources that wait to be reconciled.", registry=registry)
        self._wait = Histogram(
            "eagleray_queue_wait_seconds",
            "Time between the moment that a resource was due and its reconcile.",
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            "eagleray_api_requests",
            "Requests to the apiserver by verb, kind and HTTP status (0: no answer).",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self._ready = Histogram(
            "eagleray_time_to_ready_seconds",
            "Time from the creation of a ModelDeployment until it was first Ready.",
            buckets=START_BUCKETS,
            registry=registry,
        )
        self._succeeded = Histogram(
            "eagleray_time_to_succeeded_seconds",
            "Time from the creation of a TrainingJob until it succeeded.",
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self._watches = Counter(
            "eagleray_watch_restarts",
            "How often the watches had to begin anew, as when a definition is gone that they look at.",
            registry=registry,
        )
        self._reports = Counter(
            "eagleray_reports",
            "Reports of the runtime by type and by the HTTP status that answered them.",
            ["type", "code"],
            registry=registry,
        )

    def expose(self, resources: Resources) -> None:
        """Show the state of these resources whenever this replica leads."""
        self.registry.register(ResourceCollector(resources, self))

    @property
    def leading(self) -> bool:
        """Whether this replica reconciles."""
        return self._leading

    def leader(self, leading: bool) -> None:
        """This replica has won or lost the lease."""
        self._leading = leading
        self._leader.set(1 if leading else 0)

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """A reconcile has ended: `success`, `conflict` or `error`."""
        self._reconciles.labels(kind, result).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

    def queue(self, depth: int) -> None:
        """So many resources wait now."""
        self._depth.set(depth)

    def waited(self, seconds: float) -> None:
        """A resource was due for so long before its reconcile began."""
        self._wait.observe(seconds)

    def api_request(self, verb: str, kind: str, code: int) -> None:
        """The apiserver has answered, or has not (0)."""
        self._requests.labels(verb, kind, str(code)).inc()

    def became_ready(self, kind: str, seconds: float) -> None:
        """A deployment is Ready, or a job has succeeded, for the first time, so long after its creation."""
        (self._succeeded if kind == names.TRAINING_JOB else self._ready).observe(seconds)

    def watches_restarted(self) -> None:
        """The watches have ended and begun anew."""
        self._watches.inc()

    def report(self, type_: str, code: int) -> None:
        """A report was answered; `type_` is `unknown` for a body that could not be read."""
        self._reports.labels(type_, str(code)).inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page for Prometheus and its content type; `accept` is the header of the request."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Families:
    """Gauges that are filled for one scrape."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {}
        self.job_condition = self._family(
            "trainingjob_condition", "Conditions of a job; always 1.", "condition", "status", "reason"
        )
        self.job_info = self._family("trainingjob_info", "What a job trains; always 1.", "family", "engine", "digest")
        self.job_progress = self._family("trainingjob_progress_ratio", "Share of the whole job that is done.")
        self.job_remaining = self._family(
            "trainingjob_remaining_seconds", "Time until the end of the job, as far as can be told."
        )
        self.job_epoch = self._family("trainingjob_epoch", "Finished passes over the training part.")
        self.job_epochs = self._family("trainingjob_epochs", "Passes in all.")
        self.job_loss = self._family("trainingjob_loss", "Newest loss by part of the data.", "part")
        self.job_score = self._family("trainingjob_score", "Metrics of the finished model by part of the data.", "metric", "part")
        self.job_workers = self._family("trainingjob_workers", "Workers that train now.")
        self.job_attempts = self._family("trainingjob_attempts", "Attempts so far.")
        self.job_created = self._family("trainingjob_created_timestamp_seconds", "When the job was created.")
        self.job_completed = self._family("trainingjob_completion_timestamp_seconds", "When the job finished.")
        self.deployment_condition = self._family(
            "modeldeployment_condition", "Conditions of a deployment; always 1.", "condition", "status", "reason"
        )
        self.deployment_info = self._family(
            "modeldeployment_info", "What a deployment serves; always 1.", "model", "engine", "digest", "revision", "training_job"
        )
        self.deployment_desired = self._family("modeldeployment_replicas_desired", "Replicas that there should be now.")
        self.deployment_current = self._family("modeldeployment_replicas_current", "Replicas that have a pod.")
        self.deployment_ready = self._family("modeldeployment_replicas_ready", "Replicas that answer.")
        self.deployment_created = self._family("modeldeployment_created_timestamp_seconds", "When the deployment was created.")
        self.gpus_requested = self._family(
            "gpus_requested", "GPUs that the unfinished pods of a resource ask for, waiting ones too.", kind=True
        )
        self.gpus_in_use = self._family("gpus_in_use", "GPUs of the running pods of a resource.", kind=True)

    def _family(self, name: str, documentation: str, *labels: str, kind: bool = False) -> GaugeMetricFamily:
        keys = ("kind", *RESOURCE) if kind else RESOURCE
        family = GaugeMetricFamily(f"eagleray_{name}", documentation, labels=[*keys, *labels])
        self._families[name] = family
        return family

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


class ResourceCollector(Collector):
    """State of every resource, computed from the cache at each scrape."""

    def __init__(self, resources: Resources, metrics: Metrics) -> None:
        self._resources = resources
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Names of all series, without values."""
        return _Families()

    def collect(self) -> Iterable[Metric]:
        """All series on the leader, none elsewhere."""
        families = _Families()
        if self._metrics.leading:
            gpus = _gpus(self._resources.of_kind("Pod"))
            for job in self._resources.of_kind(names.TRAINING_JOB):
                _job(families, job)
                _gpu(families, names.TRAINING_JOB, job, gpus)
            for deployment in self._resources.of_kind(names.MODEL_DEPLOYMENT):
                _deployment(families, deployment)
                _gpu(families, names.MODEL_DEPLOYMENT, deployment, gpus)
        return families


def _job(families: _Families, job: Manifest) -> None:
    key = _key(job)
    spec, status = job.get("spec") or {}, job.get("status") or {}
    model = status.get("model") or {}
    family = (spec.get("model") or {}).get("family", "")
    families.job_info.add_metric([*key, family, model.get("engine", ""), model.get("digest", "")], 1)
    _conditions(families.job_condition, key, status)
    _timestamp(families.job_created, key, job["metadata"].get("creationTimestamp"))
    _timestamp(families.job_completed, key, status.get("completionTime"))
    attempts = status.get("attempts") or []
    families.job_attempts.add_metric(key, max((attempt.get("number", 0) for attempt in attempts), default=0))
    if progress := status.get("progress"):
        families.job_progress.add_metric(key, progress.get("percent", 0) / 100)
        families.job_epoch.add_metric(key, progress.get("epoch", 0))
        families.job_epochs.add_metric(key, progress.get("epochs", 0))
        families.job_workers.add_metric(key, progress.get("workers", 0))
        _value(families.job_remaining, key, progress.get("estimatedRemainingSeconds"))
        newest: Mapping[str, Any] = max(progress.get("history") or [], key=lambda point: point.get("epoch", 0), default={})
        for part in ("training", "validation"):
            _value(families.job_loss, [*key, part], newest.get(part))
    for score in (status.get("evaluation") or {}).get("metrics") or []:
        _value(families.job_score, [*key, score.get("name", ""), str(score.get("part", "")).lower()], score.get("value"))


def _deployment(families: _Families, deployment: Manifest) -> None:
    key = _key(deployment)
    status = deployment.get("status") or {}
    model = status.get("model") or {}
    info = [model.get(field) or "" for field in ("name", "engine", "digest")]
    families.deployment_info.add_metric([*key, *info, status.get("activeRevision") or "", model.get("trainingJob") or ""], 1)
    _conditions(families.deployment_condition, key, status)
    _timestamp(families.deployment_created, key, deployment["metadata"].get("creationTimestamp"))
    replicas = status.get("replicas") or {}
    families.deployment_desired.add_metric(key, replicas.get("desired", 0))
    families.deployment_current.add_metric(key, replicas.get("current", 0))
    families.deployment_ready.add_metric(key, replicas.get("ready", 0))


def _key(manifest: Manifest) -> list[str]:
    return [manifest["metadata"]["namespace"], manifest["metadata"]["name"]]


def _conditions(family: GaugeMetricFamily, key: list[str], status: Mapping[str, Any]) -> None:
    for condition in status.get("conditions") or []:
        labels = [condition.get(field, "") for field in ("type", "status", "reason")]
        family.add_metric([*key, *labels], 1)


def _value(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


def _timestamp(family: GaugeMetricFamily, key: list[str], text: str | None) -> None:
    if text:
        family.add_metric(key, datetime.fromisoformat(text).timestamp())


Address = tuple[str, str, str]


def _gpus(pods: Iterable[Manifest]) -> dict[Address, tuple[int, int]]:
    """GPUs asked for and in use by resource (kind, namespace, name)."""
    found: dict[Address, tuple[int, int]] = {}
    for pod in pods:
        phase = (pod.get("status") or {}).get("phase")
        count = _gpus_of(pod)
        if not count or phase in ("Succeeded", "Failed"):
            continue
        labels = pod["metadata"].get("labels") or {}
        for kind, label in names.RESOURCE_LABEL.items():
            if label in labels:
                address = (kind, pod["metadata"]["namespace"], labels[label])
                requested, used = found.get(address, (0, 0))
                found[address] = (requested + count, used + (count if phase == "Running" else 0))
    return found


def _gpus_of(pod: Manifest) -> int:
    containers = (pod.get("spec") or {}).get("containers") or []
    return sum(int(((container.get("resources") or {}).get("limits") or {}).get(GPU_RESOURCE, 0)) for container in containers)


def _gpu(families: _Families, kind: str, resource: Manifest, gpus: Mapping[Address, tuple[int, int]]) -> None:
    key = [kind, *_key(resource)]
    requested, used = gpus.get((kind, key[1], key[2]), (0, 0))
    families.gpus_requested.add_metric(key, requested)
    families.gpus_in_use.add_metric(key, used)
