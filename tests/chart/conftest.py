"""The real helm renders the chart; without one these tests are skipped by name."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ControlPlane, UnavailableError
from tests.cluster.layout import cache_folder
from tests.cluster.modules import HELM, Builder

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "helm" / "eagleray"
NAMESPACE = "eagleray-system"

Manifest = dict[str, Any]


class Rendered:
    """Objects of one rendering."""

    def __init__(self, text: str) -> None:
        self.objects: list[Manifest] = [found for found in yaml.safe_load_all(text) if found]

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self.objects)

    def all(self, kind: str) -> list[Manifest]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str = "eagleray") -> Manifest:
        found = [candidate for candidate in self.all(kind) if candidate["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {[candidate['metadata']['name'] for candidate in self.all(kind)]}"
        return found[0]


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm on PATH, else the one that the cluster's builder keeps, built now if there is a Go compiler."""
    if on_path := shutil.which("helm"):
        return Path(on_path)
    go = shutil.which("go")
    builder = Builder(cache_folder(), lambda: str(go), lambda line: None)
    program = builder.location(HELM).program("helm")
    if not program.is_file():
        if go is None:
            pytest.skip("helm is missing: put it on PATH, or install Go to have it built")
        builder.build((HELM,))
    return program


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real apiserver without the chart, but with KubeRay's definitions, which writes down who asks for what."""
    plane = ControlPlane(tmp_path_factory.mktemp("chart") / "plane", audit=True)
    try:
        plane.up()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        yield plane
    finally:
        plane.down()


Run = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def run(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs helm without any of the caller's configuration."""
    home = tmp_path_factory.mktemp("helm")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(home / "none")}

    def helm_with(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([str(helm), *arguments], capture_output=True, text=True, env=environment, check=False)

    return helm_with


@pytest.fixture(scope="session")
def render(run: Run) -> Render:
    """Renders the chart with `--set` values."""

    def rendered(*settings: str, release: str = "eagleray") -> Rendered:
        sets = [word for setting in settings for word in ("--set", setting)]
        result = run("template", release, str(CHART), "--namespace", NAMESPACE, *sets)
        assert result.returncode == 0, result.stderr
        return Rendered(result.stdout)

    return rendered
