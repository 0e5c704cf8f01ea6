"""Names, labels and annotations; every name that we make is made here."""

import hashlib
import json
from typing import Any

GROUP = "eagleray.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

TRAINING_JOB = "TrainingJob"
MODEL_DEPLOYMENT = "ModelDeployment"

FIELD_MANAGER = "eagleray"

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_TRAINING_JOB = f"{GROUP}/training-job"
LABEL_MODEL_DEPLOYMENT = f"{GROUP}/model-deployment"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_TEMPLATE = f"{GROUP}/template"
MANAGED_BY = "eagleray"

NAME_MAX = 40
"""Longest name of a resource: RayJob and RayService take 47 characters, of which ours adds up to 7."""

RESOURCE_LABEL = {TRAINING_JOB: LABEL_TRAINING_JOB, MODEL_DEPLOYMENT: LABEL_MODEL_DEPLOYMENT}


def labels(kind: str, name: str, **more: str) -> dict[str, str]:
    """Labels of every child of a resource; `more` are labels of our group by their short names."""
    return {
        LABEL_NAME: "eagleray",
        LABEL_MANAGED_BY: MANAGED_BY,
        RESOURCE_LABEL[kind]: name,
        **{f"{GROUP}/{key}": value for key, value in more.items()},
    }


def ray_job(job: str, attempt: int) -> str:
    """Name of the RayJob of an attempt."""
    return f"{job}-{attempt}"


def ray_service(deployment: str, revision: str) -> str:
    """Name of the RayService of a revision."""
    return f"{deployment}-{revision}"


def training_config(job: str, attempt: int) -> str:
    """Name of the ConfigMap that the driver of an attempt reads."""
    return f"{job}-{attempt}-config"


def serving_config(deployment: str, revision: str) -> str:
    """Name of the ConfigMap that the replicas of a revision read."""
    return f"{deployment}-{revision}-config"


def model_claim(job: str) -> str:
    """Name of the PersistentVolumeClaim that keeps a job's model when no store is named."""
    return f"{job}-model"


def ray_token_secret(uid: str, attempt: int | None = None) -> str:
    """Name of the Secret with Ray's authentication token; it carries the UID so that nobody else's can be met.

    Each attempt of a job has its own, which goes with it.
    """
    return f"eagleray-{uid}" if attempt is None else f"eagleray-{uid}-{attempt}"


def network_policy(kind: str, name: str) -> str:
    """Name of the NetworkPolicy around the pods of a resource."""
    return f"{name}-{'training' if kind == TRAINING_JOB else 'serving'}"


def content_hash(content: Any) -> str:
    """Six characters that name a content, such as what needs new pods when it changes: of its canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    alphabet = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words; starts anywhere since the name before it starts with a letter
    value = int.from_bytes(digest[:8])
    characters = []
    for _ in range(6):
        value, index = divmod(value, len(alphabet))
        characters.append(alphabet[index])
    return "".join(characters)
