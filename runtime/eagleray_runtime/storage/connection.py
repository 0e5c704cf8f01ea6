"""What each kind of store is reached by: a filesystem of fsspec, and how its refusals are understood."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import fsspec

CONNECT_SECONDS = 10
"""Until an address that does not answer counts as away."""

READ_SECONDS = 60
"""Until an answer in which nothing more comes is given up."""


@dataclass(frozen=True)
class Connection:
    """A way to a store: `files` is a filesystem of fsspec, `errors` is what it raises.

    Of these `missing` are those of a file or place that is not there. `denied` tells of one whether the store has refused the
    keys rather than the request, `away` whether it gave no answer or cannot do it now, and `words` what it says to a person.
    `commit` puts files into a folder in one step, by its path and their contents by name, where the store can; `hint` is what
    else to check where something is missing.
    """

    files: Any
    errors: tuple[type[Exception], ...] = (OSError,)
    missing: tuple[type[Exception], ...] = (FileNotFoundError,)
    denied: Callable[[Exception], bool] = lambda error: isinstance(error, PermissionError)
    away: Callable[[Exception], bool] = lambda error: isinstance(error, (ConnectionError, TimeoutError))
    words: Callable[[Exception], str] = str
    commit: Callable[[str, Mapping[str, bytes]], None] | None = None
    hint: str = ""


class KeysError(Exception):
    """The keys of a Secret do not open the store; the message says which are needed."""


def require_one(keys: Mapping[str, str] | None, *known: str) -> None:
    """Refuse a Secret that holds none of the keys that the store knows.

    Raises:
        KeysError: so it is. A Secret that does not exist looks like an empty one.
    """
    if keys is None or any(name in keys for name in known):
        return
    found = f"holds {', '.join(sorted(keys))} alone" if keys else "does not exist or is empty"
    raise KeysError(f"the secret {found}: it needs {' or '.join(known)}")


def hush(logger: str) -> None:
    """Have a library tell of what went wrong alone, where it would tell of every request."""
    logging.getLogger(logger).setLevel(logging.WARNING)


def connect(protocol: str, keys: Mapping[str, str] | None) -> Connection:
    """Reach a store by the module that is called like its protocol, imported only now; nothing is sent to it yet.

    No keys (None) mean the pod's own identity.

    Raises:
        KeysError: the keys cannot be used.
        ModuleNotFoundError: the library is not installed.
    """
    if protocol == "file":
        return Connection(fsspec.filesystem("file", skip_instance_cache=True))
    connection: Connection = import_module(f"eagleray_runtime.storage.{protocol}").connect(keys)
    return connection
