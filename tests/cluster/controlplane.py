"""etcd and kube-apiserver: the part of Kubernetes that schema, RBAC and write tests need, without root.

The node uses the same class inside its network namespace; on its own it listens on loopback only and any number may
run side by side, each in a state folder of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .access import Credentials, kubeconfig, write_private
from .commands import run, succeeds
from .layout import cache_folder
from .locks import exclusive
from .machine import require_programs
from .modules import CONTROL_PLANE, KUBERAY, KUBERNETES, Builder, find_go
from .network import SERVICE_RANGE
from .processes import Daemon, recorded
from .waiting import wait_until

LOOPBACK = "127.0.0.1"
AUDIT_LOG = "audit.log"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Ports:
    """The ports of one control plane; etcd's are on loopback in every case."""

    apiserver: int
    etcd_clients: int
    etcd_peers: int


@dataclass(frozen=True)
class ControlPlaneProcesses:
    """Starts and watches the two daemons: given where to listen and where to keep files, nothing else."""

    programs: Path
    state: Path
    address: str
    #: Another address than loopback is where the node's pods reach the apiserver.
    bind: str
    ports: Ports
    kubeconfig: Path
    records: Path
    logs: Path
    #: Words before every command, to run it in a network namespace.
    inside: Sequence[str] = ()
    #: Whether the apiserver writes down who asked for what.
    audit: bool = False

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.state / "access")

    @property
    def etcd(self) -> Daemon:
        return Daemon("etcd", self.records, self.logs)

    @property
    def apiserver(self) -> Daemon:
        return Daemon("kube-apiserver", self.records, self.logs)

    @property
    def etcd_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.etcd_clients}"

    def etcd_command(self) -> list[str]:
        peers = f"http://{LOOPBACK}:{self.ports.etcd_peers}"
        return [
            *self.inside,
            str(self.programs / "etcd"),
            f"--data-dir={self.state / 'etcd'}",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            # The data does not outlive the run: waiting for the disk would protect nothing.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def apiserver_command(self) -> list[str]:
        access = self.credentials
        command = [
            *self.inside,
            str(self.programs / "kube-apiserver"),
            f"--etcd-servers={self.etcd_url}",
            f"--cert-dir={access.certificates}",
            f"--secure-port={self.ports.apiserver}",
            f"--bind-address={self.bind}",
            f"--advertise-address={self.address}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={access.service_account_key}",
            f"--service-account-signing-key-file={access.service_account_key}",
            f"--token-auth-file={access.tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            # The kubelet's host name is in no name service here: logs and exec would fail on it.
            "--kubelet-preferred-address-types=InternalIP",
        ]
        if self.address == LOOPBACK:
            # The `kubernetes` Service may not point at loopback; without pods nobody asks for it.
            command.append("--endpoint-reconciler-type=none")
            # As some clusters have it: whoever sets an owner that must wait for the child needs a right on that owner.
            command.append("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
        if self.audit:
            policy = self.state / "audit-policy.json"
            write_private(policy, json.dumps(AUDIT_POLICY))
            command += [
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.state / AUDIT_LOG}",
                "--audit-log-mode=blocking",
            ]
        return command

    def kubectl_command(self, *arguments: str) -> list[str]:
        return [*self.inside, str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]

    def ready(self) -> bool:
        if not (self.kubeconfig.exists() and self.etcd.alive() and self.apiserver.alive()):
            return False
        return succeeds(self.kubectl_command("get", "--raw", "/readyz"), seconds=5)

    def start(self) -> None:
        """Start from nothing: an empty etcd and new secrets."""
        token = self.credentials.create()
        self.etcd.start(self.etcd_command())
        self.apiserver.start(self.apiserver_command())
        self._wait(self.credentials.authority.exists, "certificate of the apiserver")
        server = f"https://{self.address}:{self.ports.apiserver}"
        write_private(self.kubeconfig, kubeconfig(server, self.credentials.authority.read_bytes(), token))
        self._wait(self.ready, "kube-apiserver")

    def _wait(self, check: Callable[[], bool], what: str) -> None:
        def ended() -> str | None:
            return self.etcd.why_not_alive() or self.apiserver.why_not_alive()

        wait_until(check, what, seconds=90, still_possible=ended)


def install_kuberay_crds(processes: ControlPlaneProcesses, config: Path) -> None:
    """Create KubeRay's resource definitions; server-side, as they are larger than an annotation may be."""
    folder = config / "crd" / "bases"
    run(processes.kubectl_command("apply", "--server-side", "--force-conflicts", "-f", str(folder)))
    wait = ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(folder))
    run(processes.kubectl_command(*wait))


class ControlPlane:
    """A control plane on loopback, for tests that need a real apiserver and no pods."""

    def __init__(
        self,
        state: Path | None = None,
        *,
        cache: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
        audit: bool = False,
    ) -> None:
        self._cache = cache or cache_folder()
        self.state = (state or self._cache / "control-planes" / "default").resolve()
        self._say = say
        self._audit = audit
        self._builder = Builder(self._cache, lambda: find_go(self._cache, say), say)

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line for each request, where `audit` was asked for."""
        return self.state / AUDIT_LOG

    @property
    def service_account_key(self) -> Path:
        """What the apiserver signs tokens of pods with: a test may forge one."""
        return self._processes().credentials.service_account_key

    def up(self) -> None:
        """Bring it up with KubeRay's resource definitions; nothing to do when it is."""
        require_programs("openssl")
        self._builder.build(CONTROL_PLANE)
        with exclusive(self._lock):
            if self._processes().ready():
                return
            self._remove()
            processes = self._processes(_free_ports())
            processes.start()
            install_kuberay_crds(processes, self._builder.location(KUBERAY).config)

    def run_controllers(self, *names: str) -> None:
        """Run these controllers of Kubernetes beside it, at no limit of requests; they end with it."""
        processes = self._processes()
        command = [
            str(processes.programs / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(names)}",
            f"--root-ca-file={processes.credentials.authority}",
            f"--service-account-private-key-file={processes.credentials.service_account_key}",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            "--leader-elect=false",
            "--secure-port=0",
        ]
        Daemon("kube-controller-manager", self.state / "processes", self.state / "logs").start(command)

    def down(self) -> None:
        """Stop it and delete what it wrote."""
        with exclusive(self._lock):
            self._remove()

    def ready(self) -> bool:
        return self._processes().ready()

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return run(self._processes().kubectl_command(*arguments), text=text)

    @property
    def _lock(self) -> Path:
        return self.state.with_name(f".{self.state.name}.lock")

    def _processes(self, ports: Ports | None = None) -> ControlPlaneProcesses:
        return ControlPlaneProcesses(
            programs=self._builder.location(KUBERNETES).program("etcd").parent,
            state=self.state,
            address=LOOPBACK,
            bind=LOOPBACK,
            ports=ports or Ports(0, 0, 0),
            kubeconfig=self.kubeconfig,
            records=self.state / "processes",
            logs=self.state / "logs",
            audit=self._audit,
        )

    def _remove(self) -> None:
        for daemon in recorded(self.state / "processes", self.state / "logs"):
            # Nothing is worth an orderly end: what they hold is deleted next.
            daemon.stop(grace=0)
        if self.state.exists():
            shutil.rmtree(self.state)


def _free_ports() -> Ports:
    """Ask the kernel for ports that are free now; all three are held until all are known, so they differ."""
    with contextlib.ExitStack() as stack:
        return Ports(*_bound(stack, 3))


def _bound(stack: contextlib.ExitStack, count: int) -> Iterator[int]:
    for _ in range(count):
        listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((LOOPBACK, 0))
        yield int(listener.getsockname()[1])
