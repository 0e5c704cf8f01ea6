"""containerd's image store: what is in it, and putting images into it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from .commands import run, succeeds
from .components import Components
from .errors import ClusterError
from .waiting import wait_until

#: The label on an image in the store that says from which content it was made. It is kept there and not in a file of
#: ours, so that it can never be true of a store that was emptied.
KEY_LABEL = "eagleray.io/content-key"


@dataclass(frozen=True)
class ImageStore:
    """The images of one node."""

    components: Components

    def ensure_running(self) -> None:
        """Start containerd, without containers of an earlier run that was killed.

        Their records survive in its database; the runtime service would present them to the kubelet as pods. They can
        only be removed through containerd itself, which then has to read its database anew.
        """
        daemon = self.components.daemon("containerd")
        if daemon.alive():
            self._wait()
            return
        daemon.start(self.components.containerd(), environment=self._environment())
        self._wait()
        stale = run(self.components.ctr("containers", "list", "--quiet")).split()
        if not stale:
            return
        for container in stale:
            with contextlib.suppress(ClusterError):
                run(self.components.ctr("tasks", "delete", "--force", container))
            run(self.components.ctr("containers", "delete", container))
        daemon.stop(grace=10)
        daemon.start(self.components.containerd(), environment=self._environment())
        self._wait()

    def has(self, name: str, key: str) -> bool:
        """Tell whether the image is there and was made from this content."""
        selector = f'name=="{name}",labels."{KEY_LABEL}"=="{key}"'
        return name in run(self.components.ctr("images", "list", "--quiet", selector)).split()

    def blobs(self) -> dict[str, int]:
        """Return digest and size of every blob in the store."""
        listing = run(self.components.ctr("content", "list")).splitlines()[1:]
        digests = [line.split()[0] for line in listing if line.startswith("sha256:")]
        folder = self.components.layout.store / "io.containerd.content.v1.content" / "blobs" / "sha256"
        sizes = {}
        for digest in digests:
            # The listing rounds sizes; the store's own files have them exactly.
            with contextlib.suppress(OSError):
                sizes[digest] = (folder / digest.removeprefix("sha256:")).stat().st_size
        return sizes

    def load(self, name: str, key: str, write: Callable[[IO[bytes]], None]) -> None:
        """Import the archive that `write` gives, straight through a pipe, and label the image with its key."""
        if run(self.components.ctr("images", "list", "--quiet", f'name=="{name}"')).split():
            # An import that is cut short must not leave the new content under the old key, or the other way round.
            run(self.components.ctr("images", "label", name, f"{KEY_LABEL}="))
        command = self.components.ctr("images", "import", "-")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ctr:
            assert ctr.stdin is not None
            assert ctr.stdout is not None
            try:
                write(ctr.stdin)
                ctr.stdin.close()
            except BrokenPipeError:
                # ctr has ended early; its own words, read below, say why.
                with contextlib.suppress(BrokenPipeError):
                    ctr.stdin.close()
            words = ctr.stdout.read().decode(errors="replace")
        if ctr.returncode != 0:
            raise ClusterError(f"import of {name}: {words.strip()[-800:]}")
        run(self.components.ctr("images", "label", name, f"{KEY_LABEL}={key}"))
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        """Remove what the runtime service remembers of images whose name has gone to a newer one: of torch, 15 GB each."""
        listing = run(self.components.ctr("images", "list")).splitlines()[1:]
        digests = {reference: digest for reference, _, digest, *_ in (line.split() for line in listing)}
        named = {digest for reference, digest in digests.items() if not reference.startswith("sha256:")}
        if replaced := [reference for reference, digest in digests.items() if digest not in named]:
            run(self.components.ctr("images", "remove", *replaced))

    def _environment(self) -> dict[str, str]:
        """containerd looks for its shim on PATH."""
        return {"PATH": f"{self.components.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    def _wait(self) -> None:
        daemon = self.components.daemon("containerd")
        probe = self.components.ctr("version")
        wait_until(lambda: succeeds(probe), "containerd", seconds=60, still_possible=daemon.why_not_alive)
