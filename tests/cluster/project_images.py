"""The images of this project, built from its own Dockerfiles."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .archives import prepare_layout, write_layout
from .base_image import BaseImage
from .buildah import Buildah
from .errors import ClusterError
from .imagestore import ImageStore
from .layout import REPOSITORY
from .machine import require_room


@dataclass(frozen=True)
class ProjectImage:
    """One target of one Dockerfile and the name it gets."""

    name: str
    dockerfile: str
    target: str
    #: Stages whose result is kept between builds, as making them again takes minutes.
    kept_stages: tuple[str, ...]
    #: Free space that a build and import may take at their peak, in GiB.
    room: int = 6


OPERATOR = ProjectImage("localhost/eagleray-operator:dev", "operator/Dockerfile", "operator", ("dependencies",))
NUMPY = ProjectImage("localhost/eagleray-runtime:dev", "runtime/Dockerfile", "numpy", ("dependencies",))
TORCH = ProjectImage(
    "localhost/eagleray-runtime:dev-torch",
    "runtime/Dockerfile",
    "torch",
    ("dependencies", "torch-dependencies"),
    room=22,
)
IMAGES = {"operator": OPERATOR, "numpy": NUMPY, "torch": TORCH}
#: What a node starts with: torch is several gigabytes and only few tests need it.
USUAL = ("operator", "numpy")

IGNORED = {"__pycache__"}

#: Our code is one layer. With more of them new, dependencies have changed: then the whole image goes through a pipe
#: uncompressed, which neither needs room on the disk nor the time to compress it.
NEW_LAYERS_OF_A_CODE_CHANGE = 1


def copied_paths(dockerfile: str) -> list[str]:
    """Return what a Dockerfile copies from the build context: exactly the files its result depends on."""
    paths: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].upper() in ("COPY", "ADD") and not any(word.startswith("--from") for word in words):
            paths += [word for word in words[1:-1] if not word.startswith("--")]
    return paths


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.name not in IGNORED:
                yield from _files(entry)
    else:
        raise ClusterError(f"{path} is named in a Dockerfile and does not exist")


def content_key(image: ProjectImage, repository: Path, base_key: str) -> str:
    """Digest everything an image is made from, so that an unchanged one is recognised without asking buildah."""
    dockerfile = (repository / image.dockerfile).read_text(encoding="utf-8")
    digest = hashlib.sha256(repr((dockerfile, image.target, base_key)).encode())
    for copied in copied_paths(dockerfile):
        for path in _files(repository / copied):
            mode = path.stat().st_mode & 0o111
            digest.update(f"{path.relative_to(repository).as_posix()}\0{mode}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class ImageLoader:
    """Brings the project's images, as they are in this checkout, into a node's image store."""

    def __init__(self, cache: Path, say: Callable[[str], None]) -> None:
        self._cache = cache
        self._logs = cache / "logs"
        self._say = say
        self._buildah = Buildah(cache / "buildah", self._logs)
        self._prepared: dict[str, str] = {}
        self._base = BaseImage(self._buildah, cache / "base-image", self._logs, say)

    def prepare(self, image: ProjectImage) -> str:
        """Build an image from this checkout and return its content key. Needs no node; cheap when nothing changed."""
        key = content_key(image, REPOSITORY, self._base.key())
        if self._prepared.get(image.name) == key:
            return key
        require_room(self._cache, image.room)
        self._buildah.recover()
        self._base.ensure()
        self._say(f"building {image.name}")
        dockerfile, pip_cache = REPOSITORY / image.dockerfile, self._cache / "pip"
        for stage in image.kept_stages:
            name = f"{_bare(image.name)}-stage:{stage}"
            self._buildah.build(dockerfile, REPOSITORY, stage, name, pip_cache=pip_cache)
        self._buildah.build(dockerfile, REPOSITORY, image.target, image.name, pip_cache=pip_cache)
        self._buildah.drop_unnamed()
        self._prepared[image.name] = key
        return key

    def load(self, image: ProjectImage, store: ImageStore) -> bool:
        """Import an image if the store has another version of it or none; tell whether it did."""
        key = content_key(image, REPOSITORY, self._base.key())
        if store.has(image.name, key):
            return False
        key = self.prepare(image)
        self._say(f"importing {image.name}")
        known = store.blobs()
        new = [layer for layer in self._buildah.layers(image.name) if layer not in known]
        if len(new) > NEW_LAYERS_OF_A_CODE_CHANGE:
            store.load(image.name, key, lambda sink: self._buildah.write_archive(image.name, sink))
            return True
        layout = self._cache / "layout"
        shutil.rmtree(layout, ignore_errors=True)
        prepare_layout(layout, known)
        self._buildah.write_layout(image.name, layout)
        store.load(image.name, key, lambda sink: write_layout(layout, image.name, known, sink))
        shutil.rmtree(layout)
        return True


def _bare(name: str) -> str:
    """An image's name without its tag, one per variant so that their stages do not displace each other."""
    repository, _, tag = name.rpartition(":")
    return f"{repository}-{tag}"
