"""Where a job's rows come from, as its pods see it."""

import json

import pytest

from eagleray_operator.reconcilers import trainingjob
from eagleray_operator.reconcilers.plan import Observed
from tests.support.makers import KEY, NOW, SETTINGS, job


def rendered(**data):
    """The driver's config, the head's volumes and its mounts below eagleray's folders."""
    plan = trainingjob.reconcile(job(data={"target": "y"} | data), Observed(), SETTINGS, NOW, KEY)
    (config,) = (child for child in plan.apply if child["kind"] == "ConfigMap")
    (ray_job,) = (child for child in plan.apply if child["kind"] == "RayJob")
    pod = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    return json.loads(config["data"]["config.json"]), {volume["name"]: volume for volume in pod["volumes"]}, mounts


def test_files_of_the_parts_are_reached_with_the_secret_of_the_data():
    config, volumes, mounts = rendered(
        uri="s3://shop/rows.csv",
        secretRef={"name": "keys"},
        split={"validationUri": "s3://shop/held.csv", "testUri": "s3://other/test.csv"},
    )
    assert volumes["data-secret"]["secret"]["secretName"] == "keys"
    directory = mounts["data-secret"]
    assert [config[place] for place in ("dataLocation", "validationLocation", "testLocation")] == [
        {"uri": uri, "secretDirectory": directory} for uri in ("s3://shop/rows.csv", "s3://shop/held.csv", "s3://other/test.csv")
    ]


def test_claims_of_the_parts_are_mounted_for_reading_each_once():
    config, volumes, mounts = rendered(
        uri="pvc://rows/a.csv", split={"validationUri": "pvc://rows/b.csv", "testUri": "pvc://secret-rows/c.csv"}
    )
    claims = {name: volume for name, volume in volumes.items() if name.startswith("claim-")}
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in claims.values()} == {"rows", "secret-rows"}
    assert {mounts[name] for name in claims} == {"/mnt/eagleray/pvc/rows", "/mnt/eagleray/pvc/secret-rows"}
    assert config["testLocation"] == {"uri": "pvc://secret-rows/c.csv"}


@pytest.mark.parametrize("part", ["validation", "test"])
def test_rows_in_the_platforms_store_are_read_with_its_secret_whichever_part_they_are_for(part):
    config, volumes, mounts = rendered(uri="pvc://rows/a.csv", split={f"{part}Uri": "s3://models/held.csv"})
    assert volumes["data-secret"]["secret"]["secretName"] == "model-store"
    assert config[f"{part}Location"] == {"uri": "s3://models/held.csv", "secretDirectory": mounts["data-secret"]}
    assert "secretDirectory" not in config["dataLocation"]


def test_a_job_without_files_for_its_parts_is_told_of_none():
    config, _, _ = rendered(uri="pvc://rows/a.csv")
    assert not config.keys() & {"validationLocation", "testLocation"}
