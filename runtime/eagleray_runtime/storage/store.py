"""Reading and writing a folder of a store through fsspec; whatever goes wrong there is one StoreRefused."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import fsspec

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage.uris import parse

CONNECT_SECONDS = 10
TRIES = 10
"""Of one request that gets no answer, or that the store cannot do now (5xx). botocore waits a random part of 1, 2, 4, 8, 16 and
then 20 s before each other one, a minute in all on average: so long may a store be away, and no job notices."""


class Store:
    """A folder (or, for data, a file or a pattern of files) of a store."""

    def __init__(self, location: Location, environ: Mapping[str, str] = os.environ) -> None:
        """Open a location; nothing is sent to the store yet.

        Raises:
            StoreRefused: the URI is not allowed, or the secret's files cannot be read.
        """
        self.uri = location.uri.rstrip("/")
        self.protocol, self.path = parse(location.uri, environ)
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if self.protocol == "s3":
            # Only here: a job whose data and model are on a claim should not load botocore.
            from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

            self._errors = (OSError, BotoCoreError, ClientError)
            self._files = fsspec.filesystem("s3", **_s3_options(_credentials(location)))
        else:
            self._files = fsspec.filesystem("file", skip_instance_cache=True)

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
                paths = [self.path] if self._files.isfile(self.path) else []
        if not paths:
            raise StoreRefused(f"{self.uri}: no such file: check bucket or claim, path and spelling")
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
            return bool(self._files.isfile(f"{self.path}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Put a file; readers see the old one, none, or all of the new one, never a part.

        Raises:
            StoreRefused: the store does not take it.
        """
        path = f"{self.path}/{name}"
        with self._refusals("write", path):
            if self.protocol == "s3":
                self._files.pipe_file(path, content)
            else:
                _replace_file(Path(path), content)

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

    @contextmanager
    def _refusals(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = str(error) or type(error).__name__
            name = path.rsplit("/", 1)[-1]
            raise StoreRefused(f"{self.uri}: cannot {verb} {name}: {said}: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "check bucket or claim, path and spelling"
    if isinstance(error, PermissionError) or "redential" in str(error):
        return "check the keys of the secret and what they may do there"
    return "check the store's address and that this namespace may reach it"


def _credentials(location: Location) -> dict[str, str]:
    """Keys of the store: a file a key, as a Secret is mounted (which adds hidden folders of its own)."""
    if location.secret_directory is None:
        return {}
    try:
        return {
            entry.name: entry.read_text(encoding="utf-8").strip()
            for entry in Path(location.secret_directory).iterdir()
            if not entry.name.startswith(".") and entry.is_file()
        }
    except (OSError, UnicodeDecodeError) as error:
        raise StoreRefused(f"{location.uri}: the secret's files cannot be read: {error}: check secretRef and its keys") from error


def _s3_options(keys: Mapping[str, str]) -> dict[str, Any]:
    client: dict[str, Any] = {}
    config: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "retries": {"total_max_attempts": TRIES, "mode": "standard"}}
    if region := keys.get("AWS_REGION") or keys.get("AWS_DEFAULT_REGION"):
        client["region_name"] = region
    if endpoint := keys.get("AWS_ENDPOINT_URL"):
        client["endpoint_url"] = endpoint
        # Stores beside AWS seldom have a DNS name for each bucket.
        config["s3"] = {"addressing_style": "path"}
    return {
        "key": keys.get("AWS_ACCESS_KEY_ID"),
        "secret": keys.get("AWS_SECRET_ACCESS_KEY"),
        "token": keys.get("AWS_SESSION_TOKEN"),
        "client_kwargs": client,
        "config_kwargs": config,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }


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
