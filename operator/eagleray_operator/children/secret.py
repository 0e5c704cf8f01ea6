"""The Secret with Ray's authentication token."""

import base64
import hashlib
import hmac
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.children import metadata


def of_deployment(owner: Metadata, key: bytes) -> dict[str, Any]:
    """The Secret of all revisions of a deployment."""
    return _build(metadata.child(names.MODEL_DEPLOYMENT, owner, names.ray_token_secret(owner.uid)), owner.uid, key)


def of_attempt(owner: Metadata, attempt: int, key: bytes) -> dict[str, Any]:
    """The Secret of one attempt, which belongs to its RayJob and is made right after it: the owner's UID is not in it yet.

    KubeRay needs the token once more, to stop the job, when the RayJob is deleted. If it were the TrainingJob's it would
    be gone before, and the pods would stay for ever.
    """
    made = metadata.child(names.TRAINING_JOB, owner, names.ray_token_secret(owner.uid, attempt), attempt=str(attempt))
    ray_job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": names.ray_job(owner.name, attempt), "controller": True}
    return _build({**made, "ownerReferences": [ray_job]}, owner.uid, key)


def _build(made: dict[str, Any], uid: str, key: bytes) -> dict[str, Any]:
    """An immutable Secret whose token is an HMAC of the resource's UID.

    The operator can so make it again without ever reading one: it has the right to create Secrets and no other.
    """
    token = hmac.new(key, uid.encode(), hashlib.sha256).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": made,
        "type": "Opaque",
        "immutable": True,
        "data": {"auth_token": base64.b64encode(token.encode()).decode()},
    }
