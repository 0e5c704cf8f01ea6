"""The whole one-node Kubernetes: brings the parts up in order, takes them down in the other, and runs things inside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import addons, leftovers, machine
from .commands import run, succeeds
from .components import NODE_NAME, Components
from .controlplane import ControlPlaneProcesses, Ports, install_kuberay_crds
from .errors import ClusterError
from .imagestore import ImageStore
from .layout import NodeLayout, cache_folder
from .locks import exclusive
from .modules import ALL, KUBERAY, Builder, find_go
from .network import NODE_ADDRESS, Namespace
from .processes import recorded
from .project_images import IMAGES, USUAL, ImageLoader, ProjectImage
from .waiting import wait_until

PORTS = Ports(apiserver=6443, etcd_clients=2379, etcd_peers=2380)

#: Unix sockets may have paths of 107 characters; the longest below the run folder has about 40.
LONGEST_RUN_FOLDER = 65


@dataclass(frozen=True)
class Status:
    """What is true of a node now."""

    processes: dict[str, bool]
    apiserver_ready: bool
    node_ready: bool
    deployments: dict[str, bool]

    @property
    def up(self) -> bool:
        parts = (*self.processes.values(), self.apiserver_ready, self.node_ready, *self.deployments.values())
        return bool(self.processes) and all(parts)


class Node:
    """A one-node Kubernetes with KubeRay, an S3 server and volumes. It touches nothing but its own folder's cluster."""

    def __init__(self, *, cache: Path | None = None, say: Callable[[str], None] = lambda line: None) -> None:
        self._cache = cache or cache_folder()
        self._say = say
        self.layout = NodeLayout(self._cache / "node")
        self.namespace = Namespace(self.layout.name)
        self._builder = Builder(self._cache, lambda: find_go(self._cache, say), say)
        self._images = ImageLoader(self._cache, say)
        self._components = Components(self.layout, self.programs, tuple(self.namespace.inside()))
        self._store = ImageStore(self._components)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its address answers only inside the node's network namespace."""
        return self.layout.kubeconfig

    @property
    def programs(self) -> Path:
        """A folder with every program of the cluster (kubectl, helm, ctr ...)."""
        return self.layout.root / "bin"

    # -- life ---------------------------------------------------------------------------------------------------

    def build(self, images: Iterable[str] = USUAL) -> None:
        """Compile the programs that are missing, and build these images of ours; nothing is started."""
        self._preflight()
        with exclusive(self.layout.lock):
            self._build([IMAGES[name] for name in images])

    def up(self, images: Iterable[str] = USUAL) -> None:
        """Bring the node up with these images of ours loaded; what is up already is left as it is."""
        wanted = [IMAGES[name] for name in images]
        self._preflight()
        with exclusive(self.layout.lock):
            self._build(wanted if self._is_cold() else [])
            if not self.status().up:
                self._clean()
                self._start()
            for image in wanted:
                self._images.load(image, self._store)

    def down(self) -> None:
        """Stop everything and remove every trace but the builds and the imported images."""
        machine.require_root()
        with exclusive(self.layout.lock):
            self._clean()

    def status(self) -> Status:
        """Look, and change nothing."""
        machine.require_root()
        daemons = {daemon.name: daemon.alive() for daemon in recorded(self.layout.records, self.layout.logs)}
        if self.namespace.number() is None:
            return Status(dict.fromkeys(daemons, False), False, False, {})
        ready = self._control_plane().ready()
        return Status(daemons, ready, ready and self._node_ready(), self._deployments() if ready else {})

    # -- use ----------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Return the environment for commands inside: our cluster first, whatever the caller had set."""
        path = f"{self.programs}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
        proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
        kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
        runtime = {"CONTAINERD_ADDRESS": str(self._components.containerd_socket), "CONTAINERD_NAMESPACE": "k8s.io"}
        return kept | runtime | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command in the node's network namespace."""
        machine.require_root()
        if self.namespace.number() is None:
            raise ClusterError("the node is not up")
        return [*self.namespace.inside(), *command]

    def exec(
        self, command: Sequence[str], *, check: bool = True, text: str | None = None, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return what it did; a failure raises with its words unless `check` is off."""
        result = subprocess.run(
            self.inside(command),
            env=self.environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and result.returncode != 0:
            raise ClusterError(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()[-2000:]}")
        return result

    def start(self, command: Sequence[str], *, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command inside that the caller ends (a load generator, a Prometheus)."""
        if log is None:
            return subprocess.Popen(self.inside(command), env=self.environment())
        with log.open("ab") as sink:
            return subprocess.Popen(self.inside(command), env=self.environment(), stdout=sink, stderr=sink)

    def kubectl(self, *arguments: str, text: str | None = None, seconds: float | None = None) -> str:
        """Run kubectl as administrator and return what it printed."""
        return self.exec(["kubectl", *arguments], text=text, seconds=seconds).stdout

    def helm(self, *arguments: str, seconds: float | None = None) -> str:
        """Run helm as administrator and return what it printed."""
        return self.exec(["helm", *arguments], seconds=seconds).stdout

    def load_image(self, name: str) -> bool:
        """Bring one of our images, as this checkout has it, onto the node; tell whether it had to be imported."""
        machine.require_root()
        with exclusive(self.layout.lock):
            if not self._components.daemon("containerd").alive():
                raise ClusterError("the node is not up")
            return self._images.load(IMAGES[name], self._store)

    def advertise_gpus(self, count: int) -> None:
        """Make the node report this many GPUs: scheduling and Ray only count them, so no GPU is needed."""
        resource = "nvidia.com~1gpu"
        patch = [{"op": "add", "path": f"/status/{part}/{resource}", "value": str(count)} for part in ("capacity", "allocatable")]
        self.kubectl("patch", "node", NODE_NAME, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")

    def log_of(self, name: str) -> Path:
        """Return the log file of a daemon."""
        return self._components.daemon(name).log

    # -- inside -------------------------------------------------------------------------------------------------

    def _preflight(self) -> None:
        machine.require_root()
        machine.require_no_other_node()
        if len(str(self.layout.run)) > LONGEST_RUN_FOLDER:
            raise ClusterError(f"{self.layout.run} is too long for the sockets below it: set EAGLERAY_CACHE to a shorter one")
        machine.install_packages(self._say)
        machine.require_room(self._cache, machine.ROOM_COLD if self._is_cold() else machine.ROOM_WARM)

    def _build(self, images: Sequence[ProjectImage]) -> None:
        with ThreadPoolExecutor(max_workers=1) as beside:
            # Compiling wants the processors and images want the network: together they take the time of one.
            prepared = [beside.submit(self._images.prepare, image) for image in images]
            self._builder.build(ALL)
            for future in prepared:
                future.result()

    def _is_cold(self) -> bool:
        return bool(self._builder.missing(ALL))

    def _control_plane(self) -> ControlPlaneProcesses:
        return ControlPlaneProcesses(
            programs=self.programs,
            state=self.layout.run,
            address=NODE_ADDRESS,
            bind="0.0.0.0",  # noqa: S104 - inside a network namespace that nothing outside reaches
            ports=PORTS,
            kubeconfig=self.layout.kubeconfig,
            records=self.layout.records,
            logs=self.layout.logs,
            inside=self._components.inside,
        )

    def _start(self) -> None:
        """Start on ground that `_clean` has cleared."""
        self._say("starting the node")
        self._link_programs()
        self.layout.run.mkdir(parents=True, mode=0o700)
        self.namespace.create()
        leftovers.create_cgroups(self.layout.name)
        addons.prepare_folders(self.layout)
        control_plane = self._control_plane()
        with ThreadPoolExecutor(max_workers=1) as beside:
            containers = beside.submit(self._start_containers)
            control_plane.start()
            self._daemon("kube-controller-manager", self._components.controller_manager(control_plane.credentials))
            self._daemon("kube-scheduler", self._components.scheduler())
            self._daemon("kube-proxy", self._components.proxy())
            self._daemon("coredns", self._components.coredns())
            install_kuberay_crds(control_plane, self._builder.location(KUBERAY).config)
            containers.result()
        # The kubelet comes last of the daemons: it must find the runtime, with the images of its first pods in it.
        self._daemon("kubelet", self._components.kubelet())
        self._apply_addons()
        self._wait_until_ready()

    def _start_containers(self) -> None:
        self._store.ensure_running()
        for image in addons.images(self._builder):
            key = image.key()
            if not self._store.has(image.name, key):
                self._store.load(image.name, key, image.write)

    def _daemon(self, name: str, command: Sequence[str]) -> None:
        self._components.daemon(name).start(command, environment=self.environment())

    def _apply_addons(self) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": addons.manifests(self.layout)}
        apply = ("apply", "--server-side", "--force-conflicts")
        self.kubectl(*apply, "-f", "-", text=json.dumps(items))
        overlay = addons.kuberay_overlay(self._builder.location(KUBERAY).config, self.layout.run / "kuberay")
        self.kubectl(*apply, "-k", str(overlay))

    def _wait_until_ready(self) -> None:
        daemons = recorded(self.layout.records, self.layout.logs)

        def ended() -> str | None:
            return next(filter(None, (daemon.why_not_alive() for daemon in daemons)), None)

        wait_until(self._node_ready, "node Ready", seconds=120, still_possible=ended)
        # It asks for the node that it is on, and ends if there is none yet.
        self._daemon("kube-router", self._components.network_policies())
        wait_until(lambda: all(self._deployments().values()), "KubeRay, S3 and volumes", seconds=120, still_possible=ended)

    def _node_ready(self) -> bool:
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        command = self._control_plane().kubectl_command("get", "node", NODE_NAME, f"-o=jsonpath={path}")
        return succeeds(command) and run(command).strip() == "True"

    def _deployments(self) -> dict[str, bool]:
        command = self._control_plane().kubectl_command("get", "deployments", "--all-namespaces", "-o=json")
        items = json.loads(run(command))["items"]
        available = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): item["status"].get("availableReplicas", 0) > 0
            for item in items
        }
        return {name: available.get((namespace, name), False) for namespace, name in addons.DEPLOYMENTS}

    def _link_programs(self) -> None:
        """Gather all programs in one folder, for PATH; links, so that it always shows the builds of this checkout."""
        self.programs.mkdir(parents=True, exist_ok=True)
        for stale in self.programs.iterdir():
            stale.unlink()
        for module in ALL:
            build = self._builder.location(module)
            for name in module.programs:
                (self.programs / name).symlink_to(build.program(name))

    def _clean(self) -> None:
        """Remove a node in whatever state it is; each step can be repeated, so this may be killed at any point too."""
        daemons = recorded(self.layout.records, self.layout.logs)
        if daemons or self.namespace.number() is not None:
            self._say("removing the node that was there")
        # The kubelet first, or it starts again what is taken down. containerd last and gently: it owns a database.
        order = {"kubelet": 0, "containerd": 2}
        for daemon in sorted(daemons, key=lambda daemon: order.get(daemon.name, 1)):
            if daemon.name != "containerd":
                daemon.stop(grace=0)
        leftovers.kill_containers(self.layout.name)
        self._components.daemon("containerd").stop(grace=10)
        leftovers.kill_programs(self.namespace, self._cache / "builds")
        leftovers.unmount_below(self.layout.run)
        if self.layout.run.exists():
            shutil.rmtree(self.layout.run)
        shutil.rmtree(self.layout.logs, ignore_errors=True)
        self.kubeconfig.unlink(missing_ok=True)
        self.namespace.delete()
