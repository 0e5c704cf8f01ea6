"""Which URIs are allowed and what they mean on this machine."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV, PVC_ROOT, PVC_ROOT_ENV
from eagleray_runtime.contract.stores import PLACE, STORES
from eagleray_runtime.errors import StoreRefused

_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9][A-Za-z0-9._-]*")
_FORBIDDEN = re.compile(r"[?#%\\\x00-\x1f\x7f]")

_REPOSITORY = re.compile(
    r"(datasets/)?(?!(datasets|models|spaces|kernels|buckets)/)[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[^/]+)?(/|$)"
)
"""Of the kinds of things that a hub has, models and data sets."""


class Target(NamedTuple):
    """A parsed URI: the fsspec protocol that reaches it, and the path that this protocol understands."""

    protocol: str
    path: str


def parse(uri: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Turn a URI of one of `STORES`, or (local mode only) file:///path, into a protocol and a path.

    Raises:
        StoreRefused: another scheme, nothing after it, a user, port, query or address in numbers, a `..` in the path, or
            file:// where it is not allowed.
    """
    parts = urlsplit(uri)
    path = uri.split("://", 1)[-1].rstrip("/")
    if ".." in path.split("/"):
        raise StoreRefused(f"{uri}: a path must not hold '..': name the folder itself")
    if parts.scheme == "file":
        if environ.get(ALLOW_FILE_URIS_ENV) != "1":
            raise StoreRefused(f"{uri}: file:// works in local mode only: use {PLACE}")
        if parts.netloc or not path.startswith("/"):
            raise StoreRefused(f"{uri}: write file:///absolute/path")
        return Target("file", path)
    if parts.scheme not in STORES:
        raise StoreRefused(f"{uri}: the scheme is not known: use {PLACE}")
    if not parts.netloc:
        raise StoreRefused(f"{uri}: the {STORES[parts.scheme]} is missing after {parts.scheme}://")
    if not _NAME.fullmatch(parts.netloc) or _FORBIDDEN.search(uri):
        raise StoreRefused(f"{uri}: write {parts.scheme}://name/path; no user, port, query or IP address")
    if parts.scheme == "pvc":
        return Target("file", f"{environ.get(PVC_ROOT_ENV, PVC_ROOT)}/{path}")
    if parts.scheme == "hf" and not _REPOSITORY.match(path):
        raise StoreRefused(f"{uri}: write hf://owner/repository/path, or hf://datasets/owner/repository/path")
    return Target(parts.scheme, path)
