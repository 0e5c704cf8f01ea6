"""The clouds' stores as their emulators play them, on loopback, each empty at its start."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.reports import ResultReport
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress
from tests.stores import abfs, gs, s3
from tests.stores.emulator import Emulator
from tests.support.hub import WRITE, Hub, Repository, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("stores")
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"))
            # Of the hub's own library, by how it calls that of HTTP.
            item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"))


@dataclass(frozen=True)
class Place:
    """A folder that nobody else writes to, in the store of an emulator; `secret` is where the Secret's files are."""

    uri: str
    secret: Path

    def location(self, path: str = "") -> Location:
        """Where the runtime finds a path of the folder."""
        return Location(uri=f"{self.uri}/{path}".rstrip("/"), secret_directory=str(self.secret))

    def store(self, path: str = "") -> Store:
        return Store(self.location(path))


MakeSecret = Callable[[dict[str, str]], Path]


@pytest.fixture
def secret(tmp_path: Path) -> MakeSecret:
    """Makes a folder of a Secret as the kubelet mounts it."""

    def make(keys: dict[str, str]) -> Path:
        folder = tmp_path / f"secret-{uuid4().hex[:8]}"
        folder.mkdir()
        for name, value in keys.items():
            (folder / name).write_text(value)
        return folder

    return make


@pytest.fixture(scope="session")
def s3_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(partial(s3.command, folder=tmp_path_factory.mktemp("s3")))
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture(scope="session")
def gs_emulator() -> Iterator[Emulator]:
    emulator = Emulator(gs.command)
    emulator.start()
    gs.make_bucket(emulator.port)
    yield emulator
    emulator.stop()


@pytest.fixture(scope="session")
def abfs_emulator() -> Iterator[Emulator]:
    emulator = Emulator(abfs.command)
    emulator.start()
    abfs.make_container(emulator.port)
    yield emulator
    emulator.stop()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with running() as hub:
        hub.repositories["models/team/models"] = Repository(private=True)
        yield hub


@pytest.fixture(params=["s3", "gs", "abfs", "hf"])
def place(request: pytest.FixtureRequest, secret: MakeSecret) -> Place:
    """A place of each store in turn."""
    if request.param == "hf":
        hub: Hub = request.getfixturevalue("hub")
        return Place("hf://team/models/place", secret({"HF_TOKEN": WRITE, "HF_ENDPOINT": hub.address}))
    module = {"s3": s3, "gs": gs, "abfs": abfs}[request.param]
    emulator: Emulator = request.getfixturevalue(f"{request.param}_emulator")
    return Place(f"{module.ROOT}/{uuid4().hex[:8]}", secret(module.keys(emulator.port)))


@pytest.fixture
def checkpoints(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """Where the operator has a job keep its checkpoints: below its model, or on a claim where the store is a repository."""
    if not place.uri.startswith("hf://"):
        return place.location("model/.checkpoints/uid-1")
    monkeypatch.setenv("EAGLERAY_PVC_ROOT", str(tmp_path))
    return Location(uri="pvc://job-model/.checkpoints/uid-1")


@pytest.fixture
def job(place: Place, checkpoints: Location) -> TrainingConfig:
    """Configuration of a job whose rows and model are in the store."""
    rows = ["a,b,y", *(f"{a},{b},{2 * a - b + 1}" for a in range(10) for b in range(10))]
    place.store("data").write("rows.csv", "\n".join(rows).encode())
    return TrainingConfig.model_validate(
        {
            "resource": {"kind": "TrainingJob", "namespace": "team", "name": "job", "uid": "uid-1", "generation": 1},
            "attempt": 1,
            "engine": "NumPy",
            "data": {"uri": f"{place.uri}/data/*.csv", "target": "y"},
            "dataLocation": place.location("data/*.csv"),
            "model": {"family": "LinearRegression"},
            "training": {"epochs": 20},
            "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
            "output": place.location("model"),
            "checkpoints": checkpoints,
        }
    )


@pytest.fixture
def attempt() -> Callable[[TrainingConfig], ResultReport]:
    """Runs an attempt of a job in this process."""
    return lambda config: driver.run(config, Progress(config, Reporter(None)))
