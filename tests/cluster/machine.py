"""What this machine must bring: root, a few Debian packages, room on the disk, and no other Kubernetes node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .commands import run
from .errors import UnavailableError

#: Debian package and a file that shows it is there (some bring no program of their own name).
PACKAGES: dict[str, str] = {
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "ipset": "/usr/sbin/ipset",
    "nftables": "/usr/sbin/nft",
    "conntrack": "/usr/sbin/conntrack",
    "ethtool": "/usr/sbin/ethtool",
    "socat": "/usr/bin/socat",
    "iproute2": "/usr/sbin/ip",
    "procps": "/usr/sbin/sysctl",
    "openssl": "/usr/bin/openssl",
    "buildah": "/usr/bin/buildah",
    "debootstrap": "/usr/sbin/debootstrap",
    "busybox-static": "/usr/share/doc/busybox-static",
}

PLUGIN_FOLDER = Path("/usr/lib/cni")
BUSYBOX = Path("/bin/busybox")

#: Free space that a start needs, in GiB, when nothing is built and when everything is.
ROOM_COLD = 14
ROOM_WARM = 3


def require_root() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("root is missing: a node makes network namespaces, mounts and cgroups")


def require_programs(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            raise UnavailableError(f"{name} is missing: install it with the system's package manager")


def require_no_other_node() -> None:
    """Refuse on a machine that is a Kubernetes node already: both kubelets would use the same plug-in sockets."""
    for sign in ("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"):
        if Path(sign).exists():
            raise UnavailableError(f"this machine is a node of another cluster already ({sign} exists)")


def require_room(folder: Path, gigabytes: int) -> None:
    """Say so before the disk is full and not after."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**30
    if free < gigabytes:
        raise UnavailableError(f"{folder} has {free:.1f} GiB free and {gigabytes} GiB are needed: make room, then repeat")


def install_packages(say: Callable[[str], None]) -> None:
    """Install the Debian packages that are missing, saying which."""
    missing = [package for package, sign in PACKAGES.items() if not Path(sign).exists()]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"{missing[0]} is missing, and there is no apt-get to install it with (needed: Debian)")
    say(f"installing with apt-get: {' '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment=environment)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environment=environment)
    still = [package for package, sign in PACKAGES.items() if not Path(sign).exists()]
    if still:
        raise UnavailableError(f"{still[0]} is missing: apt-get brought it, but not where it was expected")
