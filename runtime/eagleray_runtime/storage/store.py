"""Reading and writing a folder of a store through fsspec; what goes wrong there is a StoreRefused or StoreUnavailable."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from eagleray_runtime.contract.config import Location
from eagleray_runtime.contract.stores import STORES
from eagleray_runtime.errors import StoreRefused, StoreUnavailable
from eagleray_runtime.storage.connection import KeysError, connect
from eagleray_runtime.storage.uris import parse


class Store:
    """A folder (or, for data, a file or a pattern of files) of a store."""

    def __init__(self, location: Location, environ: Mapping[str, str] = os.environ) -> None:
        """Open a location; nothing is sent to the store yet.

        Raises:
            StoreRefused: the URI is not allowed, or the secret's files cannot be read.
        """
        self.uri = location.uri.rstrip("/")
        self.protocol, self.path = parse(location.uri, environ)
        try:
            self._connection = connect(self.protocol, _keys(location))
        except KeysError as error:
            raise StoreRefused(f"{self.uri}: {error}: check secretRef and its keys") from error
        except ModuleNotFoundError as error:
            raise StoreRefused(
                f"{self.uri}: {self.protocol}:// needs {error.name}, which is not installed here: install eagleray[stores]"
            ) from error
        self._files = self._connection.files

    @property
    def spelling(self) -> str:
        """What to do where a file is missing."""
        place = STORES.get(self.uri.split("://", 1)[0], "folder")
        return f"check {place}, path and spelling{self._connection.hint}"

    def read(self, name: str) -> bytes:
        """Bytes of a file of the folder.

        Raises:
            StoreRefused: it is not there or may not be read.
        """
        return self.read_path(f"{self.path}/{name}")

    def read_path(self, path: str) -> bytes:
        """Bytes of a file by a path that `find` gave."""
        with self._refusals("read", path):
            return bytes(self._files.cat_file(path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop` of a file by a path that `find` gave."""
        with self._refusals("read", path):
            return bytes(self._files.cat_file(path, start=start, end=stop))

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A file by a path that `find` gave, to be read bit by bit."""
        with self._refusals("read", path), self._files.open(path, "rb") as file:
            yield file

    def size(self, path: str) -> int:
        """Bytes of a file by a path that `find` gave."""
        with self._refusals("look up", path):
            return int(self._files.size(path))

    def find(self) -> list[str]:
        """Paths of the files that the location names, sorted: itself, or what its `*` matches.

        Raises:
            StoreRefused: no file matches.
        """
        with self._refusals("list", self.path):
            if "*" in self.path:
                paths = sorted(str(path) for path in self._files.glob(self.path))
            else:
                paths = [self.path] if self._is_file(self.path) else []
        if not paths:
            raise StoreRefused(f"{self.uri}: no such file: {self.spelling}")
        return paths

    def names(self, pattern: str) -> list[str]:
        """Names of the files of the folder that match a pattern with `*`, sorted; none if there is no such folder."""
        with self._refusals("list", self.path):
            return sorted(str(path).rsplit("/", 1)[-1] for path in self._files.glob(f"{self.path}/{pattern}"))

    def remove(self, name: str) -> None:
        """Delete a file of the folder."""
        with self._refusals("delete", f"{self.path}/{name}"):
            self._files.rm_file(f"{self.path}/{name}")

    def find_below(self) -> list[str]:
        """Paths of all files below the folder, sorted; of a file of no folder, and of an empty folder, none."""
        with self._refusals("list", self.path):
            return sorted(str(path) for path in self._files.find(self.path) if str(path).startswith(f"{self.path}/"))

    def exists(self, name: str) -> bool:
        """Whether the folder holds a file of this name."""
        with self._refusals("look up", f"{self.path}/{name}"):
            return self._is_file(f"{self.path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Put a file; readers see the old one, none, or all of the new one, never a part.

        Raises:
            StoreRefused: the store does not take it.
        """
        path = f"{self.path}/{name}"
        with self._refusals("write", path):
            if self.protocol == "file":
                _replace_file(Path(path), content)
            elif self._connection.commit is not None:
                self._connection.commit(self.path, {name: content})
            else:
                self._files.pipe_file(path, content)

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """Put files as `write` does, one after the other in this order, or all at once where the store can.

        Raises:
            StoreRefused: the store does not take one; those before it may be there.
        """
        if self._connection.commit is None:
            for name, content in contents.items():
                self.write(name, content)
            return
        with self._refusals("write", self.path):
            self._connection.commit(self.path, contents)

    def remove_folder(self) -> None:
        """Delete the folder and all in it, if it is there."""
        with self._refusals("delete", self.path):
            if self._files.exists(self.path):
                self._files.rm(self.path, recursive=True)

    def make_folder(self) -> None:
        """Create the folder itself where the store has folders at all."""
        with self._refusals("create", self.path):
            if self.protocol == "file":
                self._files.makedirs(self.path, exist_ok=True)

    def arrow(self) -> Any:
        """The same store as a `pyarrow.fs.FileSystem`; its paths are those of `path`."""
        from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

        return LocalFileSystem() if self.protocol == "file" else PyFileSystem(FSSpecHandler(self._files))

    def _is_file(self, path: str) -> bool:
        # Not the filesystem's own isfile, to which a store that is away, or refuses, is one without the file.
        try:
            return bool(self._files.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    @contextmanager
    def _refusals(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except self._connection.errors as error:
            name = path.rsplit("/", 1)[-1]
            failure = StoreUnavailable if self._connection.away(error) else StoreRefused
            raise failure(f"{self.uri}: cannot {verb} {name}: {self._words(error)}") from error

    def _words(self, error: Exception) -> str:
        said = self._connection.words(error) or type(error).__name__
        if self._connection.denied(error):
            return f"{said}: check the keys of the secret and what they may do there"
        if isinstance(error, self._connection.missing):
            return f"it is not there: {self.spelling}"
        return f"{said}: check the store's address and that this namespace may reach it"


def _keys(location: Location) -> dict[str, str] | None:
    """Keys of the store: a file a key, as a Secret is mounted (which adds hidden folders of its own); None without a Secret."""
    if location.secret_directory is None:
        return None
    try:
        return {
            entry.name: entry.read_text(encoding="utf-8").strip()
            for entry in Path(location.secret_directory).iterdir()
            if not entry.name.startswith(".") and entry.is_file()
        }
    except (OSError, UnicodeDecodeError) as error:
        raise StoreRefused(f"{location.uri}: the secret's files cannot be read: {error}: check secretRef and its keys") from error


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
