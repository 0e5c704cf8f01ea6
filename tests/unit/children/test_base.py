"""Where the pretrained model comes from that a job begins with, as its pods see it."""

import json

import pytest

from eagleray_operator.reconcilers import trainingjob
from eagleray_operator.reconcilers.plan import Observed
from tests.support.makers import KEY, NOW, SETTINGS, job


def rendered(**pretrained):
    """The driver's config, and for head and workers the volumes and the places where they are mounted."""
    data = {"uri": "s3://shop/reviews.csv", "target": "y", "text": {"column": "review"}, "secretRef": {"name": "rows"}}
    wanted = job(data=data, model={"family": "Pretrained", "pretrained": pretrained})
    plan = trainingjob.reconcile(wanted, Observed(), SETTINGS, NOW, KEY)
    (config,) = (child for child in plan.apply if child["kind"] == "ConfigMap")
    (ray_job,) = (child for child in plan.apply if child["kind"] == "RayJob")
    cluster = ray_job["spec"]["rayClusterSpec"]
    pods = []
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
        pods.append(({volume["name"]: volume for volume in spec["volumes"]}, mounts))
    return json.loads(config["data"]["config.json"]), pods


def test_it_is_reached_with_a_secret_of_its_own_by_the_driver_and_every_worker():
    config, pods = rendered(uri="s3://models/minilm", secretRef={"name": "base"})
    assert config["engine"] == "Torch"
    assert len(pods) == 2
    for volumes, mounts in pods:
        assert volumes["base-secret"]["secret"]["secretName"] == "base"
        assert volumes["data-secret"]["secret"]["secretName"] == "rows"
        assert config["baseLocation"] == {"uri": "s3://models/minilm", "secretDirectory": mounts["base-secret"]["mountPath"]}


def test_its_claim_is_mounted_for_reading():
    config, pods = rendered(uri="pvc://weights/minilm")
    assert config["baseLocation"] == {"uri": "pvc://weights/minilm"}
    for volumes, mounts in pods:
        assert volumes["claim-weights"]["persistentVolumeClaim"]["claimName"] == "weights"
        assert mounts["claim-weights"] == {"name": "claim-weights", "mountPath": "/mnt/eagleray/pvc/weights", "readOnly": True}


@pytest.mark.parametrize(("uri", "secret"), [("s3://models/minilm", "model-store"), ("s3://elsewhere/minilm", None)])
def test_in_the_platforms_store_it_is_read_with_the_platforms_secret(uri, secret):
    config, pods = rendered(uri=uri)
    assert ("secretDirectory" in config["baseLocation"]) is (secret is not None)
    for volumes, _ in pods:
        assert volumes.get("base-secret", {}).get("secret", {}).get("secretName") == secret


def test_a_job_that_begins_with_nothing_is_told_of_nothing():
    plan = trainingjob.reconcile(job(), Observed(), SETTINGS, NOW, KEY)
    (config,) = (child for child in plan.apply if child["kind"] == "ConfigMap")
    assert "baseLocation" not in json.loads(config["data"]["config.json"])
