"""The PersistentVolumeClaim that keeps a job's model where no store is named, and its checkpoints where the store should not."""

from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children import metadata


def build(job: TrainingJob, live: dict[str, Any] | None = None) -> dict[str, Any]:
    """Claim `<name>-model` of spec.output.volumeSize from the default storage class; `live` keeps its own size."""
    # The apiserver writes a size in its own way (5120Mi as 5Gi), and a claim may have grown.
    size = live["spec"]["resources"]["requests"]["storage"] if live else job.spec.output.volume_size
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata.child(names.TRAINING_JOB, job.metadata, names.model_claim(job.metadata.name)),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    }
