"""Where the code of a network of the user's own comes from, as a job's pods see it, and whether those of a deployment run it."""

import json

import pytest

from eagleray_operator.api.conditions import ConditionType, find
from eagleray_operator.api.trainingjob import TrainingJobStatus
from eagleray_operator.cluster.port import Ref
from eagleray_operator.reconcilers import inputs, modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed
from tests.support.makers import DIGEST, KEY, NOW, SETTINGS, deployment, job, job_manifest

CODE = Ref("ConfigMap", "default", "churn-code")
MODEL = {"uri": "s3://models/m", "digest": DIGEST, "sizeBytes": 9, "parameters": 2, "engine": "Torch"}
DATA = {"uri": "s3://crm/churn.parquet", "target": "left"}


def of_code(**custom):
    return job(data=DATA, model={"family": "Custom", "custom": {"entrypoint": "churn:network"} | custom})


def planned(wanted, references=None):
    return trainingjob.reconcile(wanted, Observed(references=references or {}), SETTINGS, NOW, KEY)


def rendered(plan, kind="RayJob"):
    """The pods' config, and for each group its volumes and mounts by name."""
    (config,) = (json.loads(child["data"]["config.json"]) for child in plan.apply if child["kind"] == "ConfigMap")
    (parent,) = (child for child in plan.apply if child["kind"] == kind)
    cluster = parent["spec"]["rayClusterSpec" if kind == "RayJob" else "rayClusterConfig"]
    pods = []
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
        pods.append(({volume["name"]: volume for volume in spec["volumes"]}, mounts))
    return config, pods


class TestAJob:
    def test_a_config_map_is_mounted_whole_where_the_config_says(self):
        config, pods = rendered(planned(of_code(configMapRef={"name": "churn-code"}), {CODE: {"data": {"churn.py": ""}}}))
        assert config["engine"] == "Torch"
        for volumes, mounts in pods:
            assert volumes["code"] == {"name": "code", "configMap": {"name": "churn-code"}}
            assert mounts["code"] == {"name": "code", "mountPath": config["codeDirectory"], "readOnly": True}

    def test_a_uri_is_reached_with_a_secret_of_its_own(self):
        config, pods = rendered(planned(of_code(uri="s3://git/churn", secretRef={"name": "git"})))
        for volumes, mounts in pods:
            assert volumes["code-secret"]["secret"]["secretName"] == "git"
            assert config["codeLocation"] == {"uri": "s3://git/churn", "secretDirectory": mounts["code-secret"]["mountPath"]}

    def test_of_code_in_the_image_nothing_is_mounted(self):
        config, pods = rendered(planned(of_code()))
        assert not {"codeLocation", "codeDirectory"} & set(config)
        assert all("code" not in volumes for volumes, _ in pods)

    @pytest.mark.parametrize(
        ("held", "words"),
        [
            (None, "ConfigMap churn-code is not in this namespace"),
            ({"data": {"net.py": ""}}, "ConfigMap churn-code has no key churn.py; it has net.py"),
        ],
        ids=["no ConfigMap", "no such module"],
    )
    def test_it_waits_for_its_code_and_says_so(self, held, words):
        wanted = of_code(configMapRef={"name": "churn-code"})
        assert CODE in inputs.references(wanted)
        observed = Observed(references={CODE: held} if held else {}, absent=frozenset() if held else frozenset({CODE}))
        plan = trainingjob.reconcile(wanted, observed, SETTINGS, NOW, KEY)
        accepted = find(TrainingJobStatus.model_validate(plan.status).conditions, ConditionType.ACCEPTED)
        assert (accepted.status, accepted.reason) == ("False", "ReferenceNotFound")
        assert words in accepted.message
        assert not [child for child in plan.apply if child["kind"] == "RayJob"]


class TestADeployment:
    def served(self, references=None, **model):
        plan = modeldeployment.reconcile(deployment(model=model), Observed(references=references or {}), SETTINGS, NOW, KEY)
        return rendered(plan, "RayService")[0]

    def trained(self, family):
        custom = {"custom": {"entrypoint": "churn:network"}} if family == "Custom" else {}
        conditions = [
            {"type": "Succeeded", "status": "True", "reason": "Completed", "lastTransitionTime": NOW.isoformat(), "message": ""}
        ]
        status = {"model": MODEL, "conditions": conditions}
        return {
            Ref("TrainingJob", "default", "churn"): job_manifest("churn", status, data=DATA, model={"family": family} | custom)
        }

    def test_code_of_a_job_of_the_namespace_is_run_and_covered_by_its_digest(self):
        config = self.served(self.trained("Custom"), trainingJobRef={"name": "churn"})
        assert (config["engine"], config["remoteCode"], config["digest"]) == ("Torch", "Allow", DIGEST)

    def test_a_job_without_code_gives_no_consent(self):
        assert "remoteCode" not in self.served(self.trained("LinearRegression"), trainingJobRef={"name": "churn"})

    def test_code_at_a_uri_is_run_only_where_it_is_allowed(self):
        assert "remoteCode" not in self.served(uri="s3://models/m")
        config = self.served(uri="s3://models/m", digest=DIGEST, remoteCode="Allow")
        assert (config["remoteCode"], config["digest"]) == ("Allow", DIGEST)

    def test_consent_is_a_new_revision(self):
        plain = self.served(uri="s3://models/m", digest=DIGEST)
        assert plain["revision"] != self.served(uri="s3://models/m", digest=DIGEST, remoteCode="Allow")["revision"]
