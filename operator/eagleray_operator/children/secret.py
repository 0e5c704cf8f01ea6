"""The Secret with Ray's authentication token."""

import base64
import hashlib
import hmac
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.children import metadata


def build(kind: str, owner: Metadata, key: bytes) -> dict[str, Any]:
    """An immutable Secret whose token is an HMAC of the resource's UID.

    The operator can so make it again without ever reading one: it has the right to create Secrets and no other.
    """
    token = hmac.new(key, owner.uid.encode(), hashlib.sha256).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata.child(kind, owner, names.ray_token_secret(owner.uid)),
        "type": "Opaque",
        "immutable": True,
        "data": {"auth_token": base64.b64encode(token.encode()).decode()},
    }
