"""Azure's Blob Storage and Data Lake."""

import os
from collections.abc import Mapping
from http import HTTPStatus

from adlfs import AzureBlobFileSystem
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from eagleray_runtime.storage.connection import CONNECT_SECONDS, READ_SECONDS, Connection, KeysError, hush, require_one

ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
WHOLE = "AZURE_STORAGE_CONNECTION_STRING"


def connect(keys: Mapping[str, str] | None) -> Connection:
    """Reach an account by its key, a shared access signature or a connection string, or as the pod itself.

    Azure's library waits about 18, 24 and 42 s before it tries a request again, as gcsfs and botocore do for less.

    Raises:
        KeysError: nothing says which account it is, or the connection string is none.
    """
    require_one(keys, ACCOUNT, WHOLE)
    if keys is None and not (ACCOUNT in os.environ or WHOLE in os.environ):
        raise KeysError(f"without a secret nothing says which account it is: name {ACCOUNT} in one, or in runtime.env")
    known = keys or {}
    hush("azure")
    try:
        files = AzureBlobFileSystem(
            account_name=known.get(ACCOUNT),
            account_key=known.get("AZURE_STORAGE_ACCOUNT_KEY"),
            sas_token=known.get("AZURE_STORAGE_SAS_TOKEN"),
            connection_string=known.get(WHOLE),
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
    except ValueError as error:
        raise KeysError(f"the keys name no account that can be reached: {error}") from error
    errors = (OSError, ValueError, RuntimeError, AzureError)
    return Connection(files, errors, (FileNotFoundError, ResourceNotFoundError), _denied, _away, _words)


def _denied(error: Exception) -> bool:
    told = _told(error)
    return isinstance(told, ClientAuthenticationError) or (isinstance(told, HttpResponseError) and told.status_code in (401, 403))


def _away(error: Exception) -> bool:
    told = _told(error)
    if isinstance(told, HttpResponseError):
        return (told.status_code or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(told, (ConnectionError, TimeoutError, ServiceRequestError, ServiceResponseError))


def _words(error: Exception) -> str:
    # After the first line come ids of the request and the answer as XML.
    return (str(_told(error)).splitlines() or [""])[0]


def _told(error: Exception) -> BaseException:
    """What the store has said: adlfs wraps it where it removes several files."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
