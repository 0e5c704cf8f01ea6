"""Google Cloud Storage."""

import json
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

import aiohttp
import google.auth
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError, HttpError, NonRetryableError, retry_request
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2.service_account import Credentials

from eagleray_runtime.storage.connection import CONNECT_SECONDS, READ_SECONDS, Connection, KeysError, require_one

KEY = "GOOGLE_APPLICATION_CREDENTIALS"
ENDPOINT = "STORAGE_EMULATOR_HOST"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"

TRIES = 7
"""Of one request, as of S3. gcsfs waits 1, 2, 4, 8, 16 and 32 s and a random part of a second before each other one."""


class _PatientFileSystem(GCSFileSystem):  # type: ignore[misc]
    """gcsfs by the JSON API, which all buckets have, and with more patience than its half a minute.

    What `import gcsfs` gives asks first by gRPC, at an address that no endpoint changes, of what kind the bucket is.
    """

    def _get_headers(self, *arguments: Any, **options: Any) -> dict[str, str]:
        try:
            headers: dict[str, str] = super()._get_headers(*arguments, **options)
        except TransportError as error:
            # Of the service that gives tokens, which may be away as the store may; gcsfs would give up at once.
            raise aiohttp.ClientError(str(error)) from error
        return headers

    _request = retry_request(retries=TRIES)(GCSFileSystem._request.__wrapped__)


def connect(keys: Mapping[str, str] | None) -> Connection:
    """Reach Google Cloud Storage by the key of a service account, or as the pod itself.

    Raises:
        KeysError: the Secret holds no such key.
    """
    require_one(keys, KEY, ENDPOINT)
    files = _PatientFileSystem(
        token=_credentials(keys),
        endpoint_url=_endpoint(keys or {}),
        # gcsfs sends a file between marks that do not depend on it: only a checksum tells of one that was cut at such a mark.
        consistency="md5",
        requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    errors = (OSError, ValueError, HttpError, ChecksumError, NonRetryableError, GoogleAuthError, aiohttp.ClientError)
    return Connection(files, errors, denied=_denied, away=_away, words=_words)


def _credentials(keys: Mapping[str, str] | None) -> Any:
    """What gcsfs takes as its token."""
    if keys is not None:
        return _of_service_account(keys[KEY]) if KEY in keys else "anon"
    return _of_the_pod()


@cache
def _of_the_pod() -> Any:
    # Once, for where there is none, finding that out takes seconds.
    try:
        return google.auth.default(scopes=[SCOPE])[0]
    except GoogleAuthError:
        # A pod without identity: what is public can be read all the same.
        return "anon"


def _endpoint(keys: Mapping[str, str]) -> str | None:
    named = keys.get(ENDPOINT)
    return f"http://{named}" if named and "://" not in named else named


def _of_service_account(text: str) -> Any:
    try:
        return Credentials.from_service_account_info(json.loads(text), scopes=[SCOPE])
    except (ValueError, AttributeError, GoogleAuthError) as error:
        raise KeysError(f"{KEY} of the secret is not the JSON file of a service account's key: {error}") from error


def _denied(error: Exception) -> bool:
    refused = getattr(error, "code", None) in (401, 403) or str(error).startswith("Forbidden")
    return refused or isinstance(error, (GoogleAuthError, NonRetryableError, PermissionError))


def _away(error: Exception) -> bool:
    status = getattr(error, "code", None)
    if isinstance(status, int):
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, (ConnectionError, TimeoutError, TransportError, aiohttp.ClientError))


def _words(error: Exception) -> str:
    # Before what the store has said stands the address of the request.
    return (str(error).splitlines() or [""])[-1]
