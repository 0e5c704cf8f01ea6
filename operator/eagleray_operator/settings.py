"""The operator's settings: one JSON file, written by the chart."""

from pathlib import Path

from pydantic import Field, field_validator

from eagleray_runtime.contract.blocks import Block

RAY_VERSION = "2.60.0"


class ModelStore(Block):
    """Where models go when a job names no place."""

    uri: str = Field(description="Folder that holds the models, <namespace>/<job>/<uid> below it.")
    secret_name: str | None = Field(None, description="Secret with the keys of the store, in each namespace that uses it.")


class Images(Block):
    """The platform's images of the Ray pods by engine."""

    numpy: str = "localhost/eagleray-runtime:dev"
    torch: str = "localhost/eagleray-runtime:dev-torch"
    pull_policy: str = "IfNotPresent"


class NetworkSettings(Block):
    """Who may reach the pods of a resource, and what they may reach."""

    kuberay_namespace: str = "kuberay-system"
    monitoring_namespace: str | None = None
    egress_cidrs: list[str] = Field(default_factory=lambda: ["0.0.0.0/0"])
    egress_except: list[str] = Field(default_factory=lambda: ["169.254.0.0/16"])


class Settings(Block):
    """Everything that an administrator sets."""

    namespace: str = "eagleray-system"
    ray_version: str = RAY_VERSION
    images: Images = Field(default_factory=Images)
    model_store: ModelStore | None = None
    worker_memory: str = Field("2Gi", description="Memory of a worker or replica that names none.")
    head_cpus: float = 0.2
    head_memory: str = "2Gi"
    reports_url: str | None = Field(None, description="Where the pods send their reports.")
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    start_deadline_seconds: int = Field(1800, description="Seconds that the pods of an attempt may take to start.")
    drain_seconds: int = Field(30, description="Seconds that a revision keeps serving after traffic was taken from it.")
    progress_interval_seconds: float = Field(5, description="Least seconds between two status writes of mere progress.")
    workers: int = Field(20, description="Resources that are reconciled at a time.")
    requests_per_second: float = Field(200, gt=0, description="Requests to the apiserver a second in the long run.")
    requests_burst: int = Field(400, ge=1, description="Requests to the apiserver that may follow one another at once.")
    sweep_seconds: float = Field(300, description="Seconds between two sweeps for deletions that a watch has missed.")
    key_path: str = Field("/etc/eagleray/key/key", description="File with the key that Ray's tokens are derived from.")
    serving_environment: dict[str, str] = Field(
        default_factory=dict,
        description="More environment variables of the serving pods (an administrator's tuning); none of RAY_AUTH_*.",
    )

    @field_validator("serving_environment")
    @classmethod
    def _leave_authentication_on(cls, value: dict[str, str]) -> dict[str, str]:
        """KubeRay leaves out its own variables where there are some of these names: the cluster would be open to all."""
        if named := sorted(name for name in value if name.startswith("RAY_AUTH")):
            raise ValueError(f"{', '.join(named)}: Ray's authentication is always on")
        return value

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read the file; raises pydantic.ValidationError naming the field that is wrong."""
        return cls.model_validate_json(path.read_bytes())
