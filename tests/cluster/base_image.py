"""A local stand-in for the base image of our Dockerfiles, made from Debian's own packages.

The Dockerfiles name an ordinary public image. Where no image registry can be reached, this gives buildah an image of
that name: the same Debian release and Python line, with this machine's certificates so that pip works behind a proxy.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .buildah import PIP_CACHE, Buildah
from .commands import run
from .leftovers import unmount_below
from .locks import exclusive

RELEASE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
#: buildah looks for a short name of a Dockerfile among the local images first.
NAME = f"localhost/python:3.11-slim-{RELEASE}"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONFIGURATION = Path("/etc/pip.conf")
APT_SOURCES = Path("/etc/apt")


class BaseImage:
    """Makes the stand-in once per content."""

    def __init__(self, buildah: Buildah, work: Path, logs: Path, say: Callable[[str], None]) -> None:
        self._buildah = buildah
        self._work = work
        self._logs = logs
        self._say = say

    def key(self) -> str:
        digest = hashlib.sha256(repr((RELEASE, PACKAGES, PIP_CACHE)).encode())
        for path in (CERTIFICATES, PIP_CONFIGURATION):
            digest.update(path.read_bytes() if path.exists() else b"-")
        return digest.hexdigest()[:16]

    def ensure(self) -> str:
        """Make it unless it is there, and return its key."""
        key = self.key()
        marked = f"localhost/eagleray-base:{key}"
        if self._buildah.exists(marked) and self._buildah.exists(NAME):
            return key
        self._say(f"making a stand-in for {NAME} with debootstrap")
        with exclusive(self._work.with_name(f".{self._work.name}.lock")) as lock:
            self._clear()
            self._work.mkdir(parents=True)
            root = self._work / "root"
            command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root)]
            run([*command, *mirror(APT_SOURCES)], log=self._logs / "debootstrap.log", lock=lock)
            self._finish(root)
            self._buildah.commit_folder(root, (NAME, marked), self._settings())
            self._clear()
        return key

    def _clear(self) -> None:
        """Delete the work folder; debootstrap mounts the kernel's file systems in it, which must go first."""
        unmount_below(self._work)
        if self._work.exists():
            shutil.rmtree(self._work)

    def _finish(self, root: Path) -> None:
        """Do what the public image has and Debian has not, and drop what apt downloaded."""
        for name in ("python", "python3"):
            (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
        for path in (CERTIFICATES, PIP_CONFIGURATION):
            if path.exists():
                shutil.copyfile(path, root / path.relative_to("/"))
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder / "partial").mkdir(parents=True)

    def _settings(self) -> list[str]:
        path = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
        variables = {"PATH": path, "PIP_CACHE_DIR": PIP_CACHE}
        if CERTIFICATES.exists():
            # pip brings certificates of its own and would not look at the system's.
            variables["PIP_CERT"] = str(CERTIFICATES)
        return [*(f"--env={name}={value}" for name, value in variables.items()), "--cmd=python3"]


def mirror(sources: Path) -> list[str]:
    """Return the mirror this machine itself uses, if it is a Debian of the same release; else debootstrap decides."""
    files = [*sources.glob("sources.list.d/*.sources"), *sources.glob("sources.list.d/*.list"), sources / "sources.list"]
    for path in files:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for stanza in text.split("\n\n"):
            uri = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
            if uri and re.search(rf"^Suites:.*\b{RELEASE}\b(?!-)", stanza, re.MULTILINE):
                return [uri.group(1)]
        line = re.search(rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{RELEASE}\s", text, re.MULTILINE)
        if line:
            return [line.group(1)]
    return []
