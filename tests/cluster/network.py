"""The node's own network namespace: nothing in it can reach anything outside, and removing it removes all of it.

It has no default route on purpose. Without that wall a client whose cluster is down sends its request, credentials
included, to whoever answers on that address elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .commands import run

NODE_ADDRESS = "10.250.0.1"
SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
BRIDGE = "node0"

#: Pods are forwarded between each other, and what a bridge switches must pass the rules that Services are made of.
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.bridge.bridge-nf-call-iptables=1",
    # Without a default route the kernel's own check of return paths would drop what Services redirect.
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


@dataclass(frozen=True)
class Namespace:
    """A named network namespace."""

    name: str

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.name

    def inside(self) -> list[str]:
        """Return the words to put before a command so that it runs inside.

        `nsenter` and not `ip netns exec`: the latter makes a mount namespace too, and kubelet and containerd must
        see each other's mounts.
        """
        return ["nsenter", f"--net={self.path}"]

    def number(self) -> int | None:
        """Return the inode of the namespace: what a process in it shows under /proc. None when it does not exist.

        The file without the namespace mounted on it is what a killed `ip netns add` leaves; it lies on another device
        than the namespaces.
        """
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino if status.st_dev == os.stat("/proc/self/ns/net").st_dev else None

    def create(self) -> None:
        """Make it and its node address, whatever part of that exists already."""
        if self.number() is None:
            self.path.unlink(missing_ok=True)
            run(["ip", "netns", "add", self.name])
        inside = self.inside()
        run([*inside, "ip", "link", "set", "lo", "up"])
        if f" {BRIDGE}:" not in run([*inside, "ip", "-o", "link", "show"]):
            run([*inside, "ip", "link", "add", BRIDGE, "type", "bridge"])
        run([*inside, "ip", "address", "replace", f"{NODE_ADDRESS}/32", "dev", BRIDGE])
        run([*inside, "ip", "link", "set", BRIDGE, "up"])
        # The node itself is a client of Services too; their addresses need some route for the rules to apply.
        run([*inside, "ip", "route", "replace", SERVICE_RANGE, "dev", BRIDGE])
        run([*inside, "sysctl", "-qw", *SETTINGS])

    def delete(self) -> None:
        if self.number() is not None:
            run(["ip", "netns", "delete", self.name])
        self.path.unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """List the processes inside, by the namespace they are in and not by their names."""
        number = self.number()
        if number is None:
            return []
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    if os.stat(f"/proc/{entry.name}/ns/net").st_ino == number:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found
