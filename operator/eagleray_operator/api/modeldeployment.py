"""The ModelDeployment resource."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from eagleray_operator.api.common import Metadata, Quantity, Runtime, Scheduling
from eagleray_operator.api.conditions import Condition
from eagleray_operator.api.reasons import Reason
from eagleray_runtime.contract import stores
from eagleray_runtime.contract.blocks import Block, Engine, Family, Reference, RemoteCode, Rule, exactly_one_of, not_both
from eagleray_runtime.contract.reports import Choice


class ModelSource(Block):
    """The model to serve."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("uri", "trainingJobRef"),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri: a TrainingJob brings its own"),
        Rule("!has(self.digest) || has(self.uri)", "digest goes with uri: a TrainingJob brings its own"),
        Rule(
            "self.remoteCode == 'Deny' || has(self.digest)",
            "remoteCode Allow needs digest, so that the code which runs is the one that you have read: set both with uri",
        ),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description=f"Folder of a bundle: {stores.PLACE}.",
    )
    training_job_ref: Reference | None = Field(
        None,
        description="TrainingJob of the same namespace whose model is served as soon as it has succeeded.",
    )
    secret_ref: Reference | None = Field(
        None,
        description=stores.KEYS,
    )
    digest: str | None = Field(
        None,
        pattern="^sha256:[0-9a-f]{64}$",
        description="Digest that the bundle of uri must have, as status.model.digest of its job told it. Unset means any.",
    )
    remote_code: RemoteCode = Field(
        RemoteCode.DENY,
        description="Whether code in the bundle of uri may be run, which a model of family Custom needs. The code of "
        "trainingJobRef is run, for it has run in this namespace already. Default Deny.",
    )


class ServingEngine(Block):
    """What computes the answers."""

    type: Engine = Field(
        Engine.AUTO,
        description="Library that computes. Auto: Torch with a GPU, and where model.trainingJobRef names a job of family "
        "ConvolutionalNetwork, RecurrentNetwork, Transformer, Pretrained or Custom; else NumPy. Bundles of these families that "
        "model.uri names need Torch.",
    )


class Resources(Block):
    """What each replica gets; a replica is a pod."""

    cpus: float = Field(1, gt=0, le=1024, description="CPU cores of each replica. Default 1.")
    gpus: int = Field(0, ge=0, le=64, description="GPUs of each replica (nvidia.com/gpu). Default 0.")
    memory: Quantity | None = Field(None, description="Memory of each replica, such as 4Gi. Unset means the platform's default.")


class Autoscaling(Block):
    """How the number of replicas follows the load."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.minReplicas <= self.maxReplicas", "minReplicas is above maxReplicas"),)

    min_replicas: int = Field(1, ge=1, le=1000, description="Fewest replicas. Default 1.")
    max_replicas: int = Field(ge=1, le=1000, description="Most replicas.")
    target_ongoing_requests: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Requests in work at a time that each replica is meant to have. Unset means 8.",
    )
    upscale_delay_seconds: int = Field(
        10,
        ge=0,
        le=86400,
        description="Seconds that the load must be above target before replicas are added. Default 10.",
    )
    downscale_delay_seconds: int = Field(
        300,
        ge=0,
        le=86400,
        description="Seconds that the load must be below target before replicas are removed. Default 300.",
    )


class ModelDeploymentSpec(Block):
    """Serves a model on replicas behind one address."""

    rules: ClassVar[tuple[Rule, ...]] = (
        not_both("replicas", "autoscaling"),
        Rule(
            "self.engine.type != 'NumPy' || self.resources.gpus == 0",
            "engine NumPy uses no GPU: drop resources.gpus or use Torch",
        ),
    )

    model: ModelSource = Field(description="The model to serve.")
    engine: ServingEngine = Field(default_factory=ServingEngine, description="What computes the answers.")
    resources: Resources = Field(default_factory=Resources, description="What each replica gets.")
    replicas: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Number of replicas; 0 switches off. Unset without autoscaling means 1.",
    )
    autoscaling: Autoscaling | None = Field(None, description="How the number of replicas follows the load; excludes replicas.")
    runtime: Runtime = Field(default_factory=Runtime, description="The pods' software.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods run.")


class RevisionState(StrEnum):
    """What a revision is doing."""

    PENDING = "Pending"
    ACTIVE = "Active"
    DRAINING = "Draining"
    FAILED = "Failed"


class Revision(Block):
    """One immutable content of the pods."""

    name: str = Field(description="Name of its RayService.")
    state: RevisionState = Field(description="Pending, Active, Draining or Failed.")
    digest: str | None = Field(None, description="Digest of its model.")
    created_time: datetime | None = Field(None, description="When it was created.")
    draining_since: datetime | None = Field(None, description="When traffic was taken from it.")
    reason: Reason | None = Field(None, description="What keeps it from serving.")
    message: str = Field("", max_length=1500, description="What keeps it from serving, in its own words.")


class ReplicaCounts(Block):
    """Replicas of the active revision."""

    desired: int = Field(0, description="Replicas that there should be now.")
    current: int = Field(0, description="Replicas that have a pod.")
    ready: int = Field(0, description="Replicas that answer.")


class ServedModel(Block):
    """The model that is served."""

    name: str = Field(description="Its name in the inference protocol.")
    uri: str | None = Field(None, description="Where it was read.")
    digest: str | None = Field(
        None, description="Digest of the bundle: the one that is asked for, or else the one that the replicas found."
    )
    engine: str | None = Field(None, description="Library that computes.")
    training_job: str | None = Field(None, description="TrainingJob that made it.")
    family: Family | None = Field(None, description="Its family, as that job says.")
    secret_ref: Reference | None = Field(None, description="Secret with the keys of its store.")


class ScalingDecision(Block):
    """A change of the number of replicas."""

    time: datetime = Field(description="When it was seen.")
    from_: int = Field(alias="from", description="Replicas before.")
    to: int = Field(description="Replicas after.")
    reason: str = Field("", max_length=253, description="What decided: the load, or the field of the spec.")


class ModelDeploymentStatus(Block):
    """What is known of a deployment."""

    observed_generation: int | None = Field(None, description="Generation of the spec that this was computed from.")
    url: str | None = Field(None, description="Address inside the cluster; /v2/models/<name>/infer answers there.")
    selector: str | None = Field(None, description="Label selector of the replicas' pods.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Ready is the summary; Accepted and Progressing stand beside it.",
    )
    first_ready_time: datetime | None = Field(None, description="When it was Ready for the first time.")
    replicas: ReplicaCounts | None = Field(None, description="Replicas of the active revision.")
    active_revision: str | None = Field(None, description="Revision that gets the traffic.")
    revisions: list[Revision] = Field(default_factory=list, max_length=12, description="Revisions, newest first.")
    model: ServedModel | None = Field(None, description="The model that is served.")
    chosen: list[Choice] = Field(default_factory=list, max_length=32, description="Values that were chosen for you, and why.")
    scaling: list[ScalingDecision] = Field(
        default_factory=list,
        max_length=5,
        description="The newest five changes of the number of replicas, newest first.",
    )


class ModelDeployment(Block):
    """A served model."""

    model_config = Block.model_config | {"extra": "ignore"}

    metadata: Metadata
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus = Field(default_factory=ModelDeploymentStatus)
