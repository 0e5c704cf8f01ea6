"""Repositories of the Hugging Face Hub, and of hubs that speak its protocol."""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, HfFileSystem, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils._http import default_client_factory

from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage.connection import CONNECT_SECONDS, READ_SECONDS, Connection, KeysError, hush, require_one

TOKEN = "HF_TOKEN"  # noqa: S105 - a name, not a secret
ENDPOINT = "HF_ENDPOINT"

PATIENCE_SECONDS = 60
"""How long a call is tried again; the library itself tries some of its requests for 23 s and others once."""

LONGEST_WAIT_SECONDS = 16

ASKING = ("info", "exists", "glob", "find")
"""Calls that must see what others have written meanwhile; the library would answer from what it has listed before."""

_NOWHERE = (RepositoryNotFoundError, RevisionNotFoundError)


class _PatientFileSystem:
    """`HfFileSystem`, each of whose calls is tried again while the hub is away, and writing by whole commits."""

    def __init__(self, files: HfFileSystem) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        return self._patient(name, found) if callable(found) else found

    def commit(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Put files into a folder by one commit: readers see all of them or none.

        Raises:
            StoreRefused: the repository's .gitignore leaves one of them out.
        """
        self._patient("commit", self._commit)(folder, contents)

    def _commit(self, folder: str, contents: Mapping[str, bytes]) -> None:
        target = self._files.resolve_path(folder)
        prefix = f"{target.path_in_repo}/" if target.path_in_repo else ""
        files = [CommitOperationAdd(f"{prefix}{name}", content) for name, content in contents.items()]
        where = {"repo_id": target.repo_id, "repo_type": target.repo_type, "revision": target.revision}
        self._files._api.preupload_lfs_files(additions=files, **where)
        # The library would leave them out without a word.
        if ignored := [file.path_in_repo for file in files if file._should_ignore]:
            raise StoreRefused(f"hf://{folder}: the repository's .gitignore leaves out {', '.join(ignored)}: remove that from it")
        self._files._api.create_commit(operations=files, commit_message=f"Save {', '.join(contents)}"[:72], **where)
        self._files.invalidate_cache()

    def _patient(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def tried(*arguments: Any, **options: Any) -> Any:
            end, wait = time.monotonic() + PATIENCE_SECONDS, 1
            while True:
                try:
                    if name in ASKING:
                        self._files.invalidate_cache()
                    return call(*arguments, **options)
                except FileNotFoundError as error:
                    # A repository that is not there must not pass for one without the file.
                    raise error.__cause__ if isinstance(error.__cause__, _NOWHERE) else error from None
                except (HfHubHTTPError, httpx2.TransportError) as error:
                    if not _passes(error) or time.monotonic() + wait > end:
                        raise
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

        return tried


def connect(keys: Mapping[str, str] | None) -> Connection:
    """Reach the hub by a token, or with what the pod's environment holds, or as anybody.

    Raises:
        KeysError: the Secret holds neither a token nor an address, or the address is none.
    """
    require_one(keys, TOKEN, ENDPOINT)
    known = keys or {}
    endpoint = known.get(ENDPOINT)
    if endpoint is not None and not endpoint.startswith(("https://", "http://")):
        raise KeysError(f"{ENDPOINT} of the secret is {endpoint}: it must begin with https://")
    _settle()
    # With a Secret nothing else may open the repository, without one what the library finds in the environment may.
    token = known.get(TOKEN, False) if keys is not None else None
    files = _PatientFileSystem(HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True))
    return Connection(
        files,
        errors=(OSError, ValueError, EntryNotFoundError, httpx2.HTTPError),
        missing=(FileNotFoundError, EntryNotFoundError, *_NOWHERE),
        denied=_denied,
        away=_away,
        words=_words,
        commit=files.commit,
        hint=f", and {TOKEN} if it is private",
    )


@cache
def _settle() -> None:
    """What holds of the library in this whole process: once, for another factory closes the client that calls may be using."""
    hush("httpx2")
    disable_progress_bars()
    set_client_factory(_client)


def _client() -> httpx2.Client:
    """The library's client of HTTP, of all its calls."""
    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "request": [*hooks["request"], _limit]}
    return client


def _limit(request: httpx2.Request) -> None:
    """Give a request an end: the library asks for listings so that it would wait for an answer for good."""
    if request.extensions["timeout"]["read"] is None:
        request.extensions["timeout"] = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS).as_dict()


def _passes(error: HfHubHTTPError | httpx2.TransportError) -> bool:
    """Whether it may be over soon: no answer, too many requests, or an error of the hub's own."""
    return isinstance(error, httpx2.TransportError) or error.response.status_code in (429, 500, 502, 503, 504)


def _away(error: Exception) -> bool:
    return isinstance(error, HfHubHTTPError | httpx2.TransportError) and _passes(error)


def _denied(error: Exception) -> bool:
    if isinstance(error, RepositoryNotFoundError):
        # The hub does not tell who may not see a repository from one that is not there, unless it is gated.
        return isinstance(error, GatedRepoError)
    return isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403)


def _words(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError) and error.server_message:
        return str(error.server_message)
    # After the first line that says something come the address and ids of the request.
    return next((line for line in str(error).splitlines() if line.strip()), "")
