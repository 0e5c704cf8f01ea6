"""The PersistentVolumeClaim that keeps a job's model where no store is named, and its checkpoints where the store should not."""

from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children import metadata


def build(job: TrainingJob) -> dict[str, Any]:
    """Claim `<name>-model` of spec.output.volumeSize from the default storage class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata.child(names.TRAINING_JOB, job.metadata, names.model_claim(job.metadata.name)),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": job.spec.output.volume_size}},
        },
    }
