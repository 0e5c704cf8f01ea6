"""Amazon's S3, and what speaks its protocol."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import fsspec
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from eagleray_runtime.storage.connection import CONNECT_SECONDS, Connection

TRIES = 10
"""Of one request that gets no answer, or that the store cannot do now (5xx). botocore waits a random part of 1, 2, 4, 8, 16 and
then 20 s before each other one, a minute in all on average: so long may a store be away, and no job notices."""


def connect(keys: Mapping[str, str] | None) -> Connection:
    """Reach S3 by the keys that its own tools read from the environment."""
    files = fsspec.filesystem("s3", **options(keys or {}))
    return Connection(files, (OSError, BotoCoreError, ClientError), denied=_denied, away=_away)


def options(keys: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `s3fs.S3FileSystem`."""
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


def _denied(error: Exception) -> bool:
    return isinstance(error, PermissionError) or (isinstance(error, BotoCoreError) and "redential" in str(error))


def _away(error: Exception) -> bool:
    # s3fs raises errors of Python's own and keeps what botocore said as their cause.
    told = error.__cause__ or error
    if response := getattr(told, "response", None):
        return bool(response["ResponseMetadata"].get("HTTPStatusCode", 0) >= HTTPStatus.INTERNAL_SERVER_ERROR)
    no_answer = (ConnectionError, TimeoutError, EndpointConnectionError, ConnectTimeoutError, HTTPClientError)
    return isinstance(told, no_answer)
