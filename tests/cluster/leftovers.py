"""What a node leaves in kernel tables when it is killed: container processes, cgroups and mounts.

Each is recognised by something only this node can have made (its cgroup, its network namespace, its folder), so that
cleaning up can never hit another cluster on the same machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from . import launch
from .commands import run
from .errors import ClusterError
from .network import Namespace
from .processes import Identity, end

CGROUPS = Path("/sys/fs/cgroup")


def cgroup_folders(name: str) -> list[Path]:
    """List the node's cgroup in every hierarchy: one with cgroup v2, one per controller with v1."""
    candidates = [CGROUPS / name, *(entry / name for entry in CGROUPS.iterdir() if entry.is_dir())]
    return [path for path in candidates if (path / "cgroup.procs").exists()]


def create_cgroups(name: str) -> None:
    """Make the cgroup that the kubelet puts all pods under; it insists that it exists in every hierarchy.

    With v1 all pods together weigh one process per processor, as on a node that has its machine to itself, and not one in all.
    """
    if (CGROUPS / "cgroup.controllers").exists():
        (CGROUPS / name).mkdir(exist_ok=True)
        return
    for entry in CGROUPS.iterdir():
        if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists():
            (entry / name).mkdir(exist_ok=True)
            if (entry / name / "cpuset.cpus").exists():
                # A cpuset starts out empty and takes no process until it is given what its parent has.
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (entry / name / setting).write_text((entry / setting).read_text())
            if (shares := entry / name / "cpu.shares").exists():
                shares.write_text(str(1024 * (os.cpu_count() or 1)))


def kill_containers(name: str) -> None:
    """Kill every process in the node's cgroup and remove the cgroup, deepest folders first."""
    for folder in cgroup_folders(name):
        deadline = time.monotonic() + 15
        while folder.exists():
            # Not by rglob: it fails on a folder that a container's own end removes meanwhile.
            for nested, _, _ in os.walk(folder, topdown=False):
                path = Path(nested)
                with contextlib.suppress(OSError):
                    for pid in (path / "cgroup.procs").read_text().split():
                        _kill(int(pid))
                with contextlib.suppress(OSError):
                    path.rmdir()
            if time.monotonic() > deadline:
                raise ClusterError(f"processes in cgroup {folder} do not end")
            time.sleep(0.05)


def kill_programs(namespace: Namespace, programs: Path) -> None:
    """Kill what runs in the node's network namespace from our own program folder (containerd's shims, mostly).

    Not simply everything inside: the caller may itself be a test that was started there.
    """
    for pid in namespace.processes():
        with contextlib.suppress(OSError):
            if Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")).is_relative_to(programs):
                _kill(pid)


def _kill(pid: int) -> None:
    started = launch.start_time(pid)
    if started is not None:
        end(Identity(pid, started, launch.boot_id()), grace=0)


def mounts_below(folder: Path, table: str | None = None) -> list[Path]:
    """List the mount points under a folder, deepest first."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if table is None else table
    points = [Path(_unescape(line.split()[4])) for line in text.splitlines()]
    below = [point for point in points if point.is_relative_to(folder)]
    return sorted(below, key=lambda point: -len(point.parts))


def _unescape(path: str) -> str:
    """Mount tables write blanks and the like as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)


def unmount_below(folder: Path) -> None:
    """Unmount everything under a folder; deleting the folder before that would delete through the mounts."""
    for point in mounts_below(folder):
        run(["umount", "--lazy", point])
    if mounts_below(folder):
        raise ClusterError(f"there are still mounts under {folder}")
