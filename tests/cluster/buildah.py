"""buildah with a storage of its own, so that nothing else on the machine sees our images and cleaning up is safe."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .commands import run, succeeds
from .errors import ClusterError
from .leftovers import unmount_below
from .locks import exclusive

#: Where the stand-in for the base image tells pip to keep what it downloads.
PIP_CACHE = "/var/cache/pip"


@dataclass(frozen=True)
class Buildah:
    """The few buildah operations that are needed, in one storage folder."""

    folder: Path
    logs: Path

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        storage: list[str | Path] = [
            "--root",
            self.folder / "storage",
            "--runroot",
            self.folder / "run",
            "--storage-driver",
            "overlay",
        ]
        return ["buildah", *storage, *arguments]

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.lock")

    def recover(self) -> None:
        """Remove what a build that was killed left behind: its mounts and its working containers."""
        with exclusive(self.lock) as lock:
            unmount_below(self.folder)
            if self.folder.exists() and run(self._command("containers", "--quiet")).strip():
                run(self._command("rm", "--all"), lock=lock)

    def exists(self, name: str) -> bool:
        return self.folder.exists() and succeeds(self._command("inspect", "--type=image", "--format={{.FromImageID}}", name))

    def commit_folder(self, root: Path, names: Sequence[str], settings: Sequence[str]) -> None:
        """Make an image with one layer, the content of a folder, under several names."""
        with exclusive(self.lock) as lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            container = run(self._command("from", "scratch"), lock=lock).strip()
            run(self._command("add", "--quiet", container, root, "/"), lock=lock)
            run(self._command("config", *settings, container))
            run(self._command("commit", "--quiet", "--rm", container, names[0]), lock=lock)
            for name in names[1:]:
                run(self._command("tag", names[0], name))

    def build(self, dockerfile: Path, context: Path, target: str, name: str, *, pip_cache: Path) -> None:
        """Build one stage of an ordinary Dockerfile.

        Downloaded packages are kept outside the image, in a folder that is mounted over pip's cache during the build.
        """
        pip_cache.mkdir(parents=True, exist_ok=True)
        options = ("--layers", "--isolation=chroot", "--network=host", "--pull-never")
        mount = f"--volume={pip_cache}:{PIP_CACHE}:rw"
        selection = (f"--target={target}", f"--tag={name}", f"--file={dockerfile}")
        with exclusive(self.lock) as lock:
            log = self.logs / f"image-{target}.log"
            run(self._command("bud", *options, mount, *selection, context), log=log, lock=lock)

    def layers(self, name: str) -> list[str]:
        """Return the digests of an image's layers, uncompressed."""
        template = "{{range .OCIv1.RootFS.DiffIDs}}{{.}} {{end}}"
        return run(self._command("inspect", "--type=image", f"--format={template}", name)).split()

    def write_archive(self, name: str, sink: IO[bytes]) -> None:
        """Write a whole image, layers uncompressed, into a pipe."""
        command = [str(part) for part in self._command("push", "--quiet", name, f"docker-archive:/dev/stdout:{name}")]
        with exclusive(self.lock) as lock:
            result = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, pass_fds=(lock,), check=False)
        if result.returncode != 0:
            raise ClusterError(f"export of {name}: {result.stderr.decode(errors='replace').strip()[-800:]}")

    def write_layout(self, name: str, layout: Path) -> None:
        """Write an image into a layout folder, except for the layers that it finds there."""
        with exclusive(self.lock) as lock:
            run(self._command("push", "--quiet", name, f"oci:{layout}:latest"), lock=lock)

    def drop_unnamed(self) -> None:
        """Delete what earlier versions of our images left: layers that no named image uses."""
        with exclusive(self.lock) as lock:
            run(self._command("rmi", "--prune"), lock=lock)
