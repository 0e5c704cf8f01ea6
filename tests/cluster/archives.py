"""Container images as archives that containerd imports, written without any image tool."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

#: The annotation that containerd takes the image's full name from.
NAME_ANNOTATION = "io.containerd.image.name"

#: Images name processors differently from the kernel.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class StaticImage:
    """An image of a few static programs and nothing else: there is no shell in it that anything could be run with."""

    name: str
    #: Path in the image -> file on this machine.
    files: Mapping[str, Path]
    #: Path in the image -> what the symbolic link says.
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()

    def key(self) -> str:
        digest = hashlib.sha256(repr((sorted(self.links.items()), list(self.entrypoint))).encode())
        for inside, path in sorted(self.files.items()):
            digest.update(f"{inside}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def write(self, sink: IO[bytes]) -> None:
        """Write the archive. Its times and owners are constants, so equal content gives an equal image."""
        layer = self._layer()
        layer_digest = hashlib.sha256(layer).hexdigest()
        configuration = {
            "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Entrypoint": list(self.entrypoint), "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        }
        encoded = json.dumps(configuration, sort_keys=True).encode()
        file = hashlib.sha256(encoded).hexdigest() + ".json"
        manifest = [{"Config": file, "RepoTags": [self.name], "Layers": ["layer.tar"]}]
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _add_bytes(archive, file, encoded)
            _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
            _add_bytes(archive, "layer.tar", layer)

    def _layer(self) -> bytes:
        buffer = io.BytesIO()
        folders = {str(parent) for inside in (*self.files, *self.links) for parent in Path(inside).parents}
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for folder in sorted(folders - {"/", "."} | {"/tmp"}):
                entry = tarfile.TarInfo(folder.lstrip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
                archive.addfile(entry)
            for inside, path in sorted(self.files.items()):
                _add_bytes(archive, inside.lstrip("/"), path.read_bytes(), mode=0o755)
            for inside, target in sorted(self.links.items()):
                entry = tarfile.TarInfo(inside.lstrip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        return buffer.getvalue()


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def prepare_layout(folder: Path, known: Mapping[str, int]) -> None:
    """Make an image layout in which every blob that containerd has already is a hole of the right size.

    Whoever writes an image into it finds those blobs present and leaves them alone: a change of our sources then
    costs one small layer and not a copy of all dependencies.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, size in known.items():
        with (blobs / digest.removeprefix("sha256:")).open("wb") as file:
            file.truncate(size)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def write_layout(folder: Path, name: str, known: Iterable[str], sink: IO[bytes]) -> None:
    """Write the layout as an archive under a full image name, without the blobs that are only holes."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for manifest in index["manifests"]:
        manifest["annotations"] = {NAME_ANNOTATION: name}
    holes = {digest.removeprefix("sha256:") for digest in known}
    with tarfile.open(fileobj=sink, mode="w|") as archive:
        archive.add(folder / "oci-layout", "oci-layout")
        _add_bytes(archive, "index.json", json.dumps(index).encode())
        for blob in sorted((folder / "blobs" / "sha256").iterdir()):
            if blob.name not in holes:
                archive.add(blob, f"blobs/sha256/{blob.name}")
