"""Configuration files and command lines of everything on the node beside etcd and the apiserver."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from .access import Credentials, write_private
from .layout import NodeLayout
from .machine import PLUGIN_FOLDER
from .network import NODE_ADDRESS, POD_RANGE, SERVICE_RANGE
from .processes import Daemon

NODE_NAME = "node1"
PAUSE_IMAGE = "localhost/eagleray-pause:dev"
CLUSTER_DOMAIN = "cluster.local"

#: One node needs one piece of the pods' range.
POD_SUBNET = POD_RANGE.replace("/16", "/24")


@dataclass(frozen=True)
class Components:
    """The daemons of one node."""

    layout: NodeLayout
    programs: Path
    inside: tuple[str, ...]

    def daemon(self, name: str) -> Daemon:
        return Daemon(name, self.layout.records, self.layout.logs)

    @property
    def containerd_socket(self) -> Path:
        return self.layout.run / "containerd.sock"

    def command(self, program: str, *arguments: str) -> list[str]:
        return [*self.inside, str(self.programs / program), *arguments]

    def containerd(self) -> list[str]:
        file = self.layout.run / "containerd.toml"
        write_private(file, containerd_configuration(self.layout, self.containerd_socket))
        write_private(self.layout.run / "cni" / "10-pods.conflist", json.dumps(pod_network(self.layout), indent=2))
        return self.command("containerd", f"--config={file}")

    def ctr(self, *arguments: str) -> list[str]:
        return [str(self.programs / "ctr"), f"--address={self.containerd_socket}", "--namespace=k8s.io", *arguments]

    def controller_manager(self, access: Credentials) -> list[str]:
        return self.command(
            "kube-controller-manager",
            f"--kubeconfig={self.layout.kubeconfig}",
            f"--service-account-private-key-file={access.service_account_key}",
            # Pods verify the apiserver by what this publishes to them.
            f"--root-ca-file={access.authority}",
            "--use-service-account-credentials",
            f"--bind-address={NODE_ADDRESS}",
            "--leader-elect=false",
        )

    def scheduler(self) -> list[str]:
        kubeconfig = f"--kubeconfig={self.layout.kubeconfig}"
        return self.command("kube-scheduler", kubeconfig, f"--bind-address={NODE_ADDRESS}", "--leader-elect=false")

    def proxy(self) -> list[str]:
        return self.command(
            "kube-proxy",
            f"--kubeconfig={self.layout.kubeconfig}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={POD_RANGE}",
            f"--hostname-override={NODE_NAME}",
            f"--nodeport-addresses={NODE_ADDRESS}/32",
            f"--healthz-bind-address={NODE_ADDRESS}:10256",
            # The size of the connection table is the machine's setting; no network namespace but the first may change it.
            "--conntrack-max-per-core=0",
        )

    def network_policies(self) -> list[str]:
        """Of all that kube-router can do, only the enforcement of NetworkPolicies."""
        return self.command(
            "kube-router",
            f"--kubeconfig={self.layout.kubeconfig}",
            f"--hostname-override={NODE_NAME}",
            "--run-firewall=true",
            "--run-router=false",
            "--run-service-proxy=false",
            "--run-loadbalancer=false",
            "--enable-cni=false",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
        )

    def kubelet(self) -> list[str]:
        file = self.layout.run / "kubelet.json"
        write_private(file, json.dumps(kubelet_configuration(self.layout, self.containerd_socket), indent=2))
        return self.command(
            "kubelet",
            f"--kubeconfig={self.layout.kubeconfig}",
            f"--config={file}",
            f"--root-dir={self.layout.run / 'kubelet'}",
            f"--cert-dir={self.layout.run / 'kubelet-certificates'}",
            f"--node-ip={NODE_ADDRESS}",
            f"--hostname-override={NODE_NAME}",
        )

    def coredns(self) -> list[str]:
        file = self.layout.run / "Corefile"
        write_private(file, name_service(self.layout.kubeconfig))
        return self.command("coredns", f"-conf={file}")


def name_service(kubeconfig: Path) -> str:
    """Return CoreDNS's configuration.

    Every other name is answered with "does not exist" at once: clients then fail in a moment and not after a timeout.
    """
    return f"""\
{CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}

.:53 {{
    bind {NODE_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def containerd_configuration(layout: NodeLayout, socket: Path) -> str:
    """Return containerd's configuration: all of its paths inside the node's folder, beside any other containerd."""
    state = layout.run / "containerd"
    return f"""\
version = 3
root = "{layout.store}"
state = "{state}"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{socket}"

[plugins.'io.containerd.internal.v1.opt']
path = "{layout.store}/opt"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{PLUGIN_FOLDER}"]
conf_dir = "{layout.run}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{shutil.which("runc") or "runc"}"
"""


def pod_network(layout: NodeLayout) -> dict[str, object]:
    """Return the pods' network: one bridge; a pod may reach itself through its own Service (hairpin)."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(layout.run / "addresses"),
    }
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}


def kubelet_configuration(layout: NodeLayout, socket: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "healthzBindAddress": NODE_ADDRESS,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(layout.run / "pod-logs"),
        "maxPods": 100,
        # The defaults are shares of the disk. A large disk that others fill would make the kubelet delete our images,
        # which no registry here could give back.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "100h",
        # A test waits for a handful of pods at a time; the default pace of 5 s per check is most of the wait.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "shutdownGracePeriod": "0s",
    }
