"""The clouds' stores as their emulators play them, on loopback, each empty at its start."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from eagleray_runtime.contract.config import Location
from eagleray_runtime.storage import Store
from tests.stores import abfs, gs
from tests.stores.emulator import Emulator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("stores")


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


@pytest.fixture(params=["gs", "abfs"])
def place(request: pytest.FixtureRequest, secret: MakeSecret) -> Place:
    """A place of each store in turn."""
    module = {"gs": gs, "abfs": abfs}[request.param]
    emulator: Emulator = request.getfixturevalue(f"{request.param}_emulator")
    return Place(f"{module.ROOT}/{uuid4().hex[:8]}", secret(module.keys(emulator.port)))
