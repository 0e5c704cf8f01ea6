"""The files that the operator writes and the runtime reads (`EAGLERAY_CONFIG`)."""

from typing import Literal

from pydantic import Field

from eagleray_runtime.contract.blocks import Block, Data, Engine, Evaluation, Model, RemoteCode, Training
from eagleray_runtime.contract.search import Search


class ResourceIdentity(Block):
    """The resource that a pod works for."""

    kind: Literal["TrainingJob", "ModelDeployment"]
    namespace: str
    name: str
    uid: str
    generation: int


class Location(Block):
    """A place in a store.

    `uri` is of one of `stores.STORES` or, in local mode only, file:///path. `secret_directory` holds the keys of the store, a
    file a key; None means the pod's own identity.
    """

    uri: str
    secret_directory: str | None = None


class Start(Block):
    """The bundle that training starts from; `digest` is what it must have, where that is known."""

    location: Location
    digest: str | None = None


class WorkerBounds(Block):
    """Elastic bounds of the workers and what each of them gets."""

    min: int
    max: int
    cpus: float
    gpus: int


class TrainingConfig(Block):
    """What the driver of one attempt of a TrainingJob needs.

    `engine` is already decided. Rows come from `data_location` (URI), `data_file` (a mounted ConfigMap key) or
    `data.sample`; those of the validation and the test part from `validation_location` and `test_location` where
    data.split names files for them; weights and tokenizer of family Pretrained from `base_location`. The code of family Custom
    comes from `code_location` (URI) or `code_directory` (a mounted ConfigMap), else it is in the image. The bundle goes to
    `output`; checkpoints go below `checkpoints`, the same for all attempts, so that an attempt resumes what the one before it
    reached, or only reports a bundle that is already complete.
    """

    schema_version: Literal[1] = 1
    resource: ResourceIdentity
    attempt: int = Field(ge=1)
    engine: Literal[Engine.NUMPY, Engine.TORCH]
    data: Data
    data_location: Location | None = None
    validation_location: Location | None = None
    test_location: Location | None = None
    base_location: Location | None = None
    code_location: Location | None = None
    code_directory: str | None = None
    data_file: str | None = None
    model: Model
    start: Start | None = None
    training: Training
    evaluation: Evaluation = Field(default_factory=Evaluation)
    search: Search | None = None
    workers: WorkerBounds
    output: Location
    checkpoints: Location
    reports_url: str | None = None


class ServingConfig(Block):
    """What a replica of a ModelDeployment needs.

    `name` is the model's name in the inference protocol; `digest`, when given, must be the one of the bundle found at
    `model`. `remote_code` is set where code of the bundle, or code of the image that it names, may be run.
    """

    schema_version: Literal[1] = 1
    resource: ResourceIdentity
    revision: str
    name: str
    model: Location
    digest: str | None = None
    remote_code: Literal[RemoteCode.ALLOW] | None = None
    engine: Literal[Engine.NUMPY, Engine.TORCH]
