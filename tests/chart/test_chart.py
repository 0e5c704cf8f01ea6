import base64
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from eagleray_operator.api import crd
from eagleray_operator.settings import ModelStore, Settings
from eagleray_runtime.contract import names as contract
from manifests.monitoring.verification import POD_LABELS

from .conftest import CHART, NAMESPACE, Manifest, Render, Rendered, Run

READ_WRITE = {"get", "list", "watch", "create", "patch"}
RIGHTS = {
    ("eagleray.io", "trainingjobs"): {"get", "list", "watch", "delete"},
    ("eagleray.io", "modeldeployments"): {"get", "list", "watch"},
    ("eagleray.io", "trainingjobs/status"): {"patch"},
    ("eagleray.io", "modeldeployments/status"): {"patch"},
    ("eagleray.io", "trainingjobs/finalizers"): {"update"},
    ("eagleray.io", "modeldeployments/finalizers"): {"update"},
    ("ray.io", "rayjobs"): READ_WRITE | {"delete"},
    ("ray.io", "rayservices"): READ_WRITE | {"delete"},
    ("ray.io", "rayclusters"): {"get", "list", "watch", "patch"},
    ("", "pods"): {"get", "list", "watch"},
    ("", "configmaps"): {"get", "list", "watch", "create", "delete"},
    ("", "services"): READ_WRITE,
    ("", "persistentvolumeclaims"): READ_WRITE,
    ("", "secrets"): {"create"},
    ("networking.k8s.io", "networkpolicies"): READ_WRITE,
    ("events.k8s.io", "events"): {"create"},
    ("authentication.k8s.io", "tokenreviews"): {"create"},
    ("apiextensions.k8s.io", "customresourcedefinitions"): {"list", "watch"},
}


def rights(role: Manifest) -> dict[tuple[str, str], set[str]]:
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    return granted


def settings_of(rendered: Rendered) -> dict[str, Any]:
    text = rendered.one("ConfigMap", "eagleray-settings")["data"]["settings.json"]
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def usual(render: Render) -> Rendered:
    return render()


def test_strict_lint_finds_nothing(run: Run) -> None:
    result = run("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_operator_reads_the_settings_and_every_one_can_be_set(usual: Rendered, render: Render) -> None:
    settings = Settings.model_validate(settings_of(usual))
    assert settings.namespace == NAMESPACE
    assert settings.reports_url == f"http://eagleray-reports.{NAMESPACE}.svc:8081{contract.REPORTS_PATH}"
    assert settings.images.numpy == "eagleray/runtime:0.1.0"
    assert settings.images.torch == "eagleray/runtime:0.1.0-torch"
    assert settings.model_store is None

    everything = render(
        "modelStore.uri=s3://models/eagleray",
        "modelStore.secretName=store",
        "settings.network.monitoringNamespace=monitoring",
        "settings.servingEnvironment.RAY_LOG=on",
        "runtime.images.numpy=example/numpy:1",
    )
    written = settings_of(everything)
    assert set(written) == {field.alias for field in Settings.model_fields.values()}
    settings = Settings.model_validate(written)
    assert settings.model_store is not None
    assert (settings.model_store.uri, settings.model_store.secret_name) == ("s3://models/eagleray", "store")
    assert settings.network.monitoring_namespace == "monitoring"
    assert settings.images.numpy == "example/numpy:1"
    assert set(written["network"]) == {field.alias for field in type(settings.network).model_fields.values()}


def test_defaults_of_the_chart_are_those_of_the_operator(usual: Rendered) -> None:
    chart, operator = Settings.model_validate(settings_of(usual)), Settings()
    decided_by_the_chart = {"images": operator.images, "reports_url": None}
    assert chart.model_copy(update=decided_by_the_chart) == operator


def test_the_operator_has_exactly_the_rights_of_this_table(usual: Rendered) -> None:
    role = usual.one("ClusterRole")
    assert rights(role) == RIGHTS
    bound = usual.one("ClusterRoleBinding")
    assert bound["roleRef"]["name"] == role["metadata"]["name"]
    assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "eagleray", "namespace": NAMESPACE}]


def test_its_lease_is_the_only_one_that_it_may_touch(usual: Rendered) -> None:
    create, rest = usual.one("Role")["rules"]
    assert create == {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    assert (rest["resources"], rest["resourceNames"]) == (["leases"], ["eagleray"])
    assert set(rest["verbs"]) == {"get", "update"}


def test_no_role_reads_secrets_or_holds_a_wildcard(usual: Rendered) -> None:
    for role in usual.all("ClusterRole") + usual.all("Role"):
        for (_, resource), verbs in rights(role).items():
            assert "*" not in resource
            assert not verbs & {"*", "escalate", "bind", "impersonate"}
            if resource == "secrets":
                assert verbs == {"create"}


def test_pods_satisfy_restricted_pod_security(usual: Rendered) -> None:
    specs = [usual.one("Deployment")["spec"]["template"]["spec"], usual.one("Pod", "eagleray-test")["spec"]]
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert not any("hostPath" in volume for volume in spec.get("volumes", []))


def test_the_operator_is_started_as_it_expects(usual: Rendered) -> None:
    deployment = usual.one("Deployment")
    assert deployment["spec"]["replicas"] == 2
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "eagleray/operator:0.1.0"
    assert container["command"] == ["eagleray", "operator", "--settings", "/etc/eagleray/settings.json"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"metrics": 8080, "reports": 8081}
    environment = {variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"] for variable in container["env"]}
    assert environment == {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["configuration"] == "/etc/eagleray"
    sources = next(volume for volume in spec["volumes"] if volume["name"] == "configuration")["projected"]["sources"]
    assert {"secret": {"name": "eagleray-key", "items": [{"key": "key", "path": "key/key"}]}} in sources
    assert Settings().key_path == "/etc/eagleray/key/key"


def test_a_change_of_settings_starts_new_pods(usual: Rendered, render: Render) -> None:
    def checksum(rendered: Rendered) -> str:
        annotations = rendered.one("Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert checksum(usual) == checksum(render())
    assert checksum(usual) != checksum(render("settings.workers=21"))


def test_services_lead_to_the_operators_pods(usual: Rendered) -> None:
    labels = usual.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for endpoint, port in (("reports", 8081), ("metrics", 8080)):
        service = usual.one("Service", f"eagleray-{endpoint}")
        assert service["spec"]["ports"] == [{"name": endpoint, "port": port, "targetPort": endpoint}]
        assert service["spec"]["selector"].items() <= labels.items()
    assert usual.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_key_is_made_and_kept_or_taken_from_an_existing_secret(usual: Rendered, render: Render) -> None:
    secret = usual.one("Secret", "eagleray-key")
    assert len(base64.b64decode(secret["data"]["key"])) == 64
    assert secret["immutable"] is True
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"

    named = render("key.existingSecret=mine")
    assert named.all("Secret") == []
    volumes = named.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["projected"]["sources"][1]["secret"]["name"] == "mine"


def test_the_definitions_are_those_of_the_api_and_stay(usual: Rendered, render: Render) -> None:
    expected = {found["metadata"]["name"]: found["spec"] for found in crd.definitions().values()}
    rendered = {found["metadata"]["name"]: found for found in usual.all("CustomResourceDefinition")}
    assert {name: found["spec"] for name, found in rendered.items()} == expected
    for found in rendered.values():
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert render("crds.enabled=false").all("CustomResourceDefinition") == []


def test_the_network_policy_lets_in_reports_of_training_jobs_and_prometheus_only(usual: Rendered, render: Render) -> None:
    reports, metrics = usual.one("NetworkPolicy")["spec"]["ingress"]
    assert reports["ports"] == [{"port": "reports", "protocol": "TCP"}]
    keys = [peer["podSelector"]["matchExpressions"][0]["key"] for peer in reports["from"]]
    assert keys == ["eagleray.io/training-job"]
    assert metrics["from"][1] == {"namespaceSelector": {}}
    limited = render("settings.network.monitoringNamespace=monitoring").one("NetworkPolicy")["spec"]["ingress"][1]
    assert limited["from"][1] == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert render("networkPolicy.enabled=false").all("NetworkPolicy") == []


def test_monitoring_is_off_unless_asked_for(usual: Rendered, render: Render) -> None:
    kinds = {found["kind"] for found in usual}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    on = render(
        "monitoring.enabled=true",
        "monitoring.rules.enabled=true",
        "monitoring.dashboard.enabled=true",
        "monitoring.labels.release=stack",
    )
    monitor = on.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "stack"
    service = on.one("Service", "eagleray-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    reports = on.one("Service", "eagleray-reports")
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= reports["metadata"]["labels"].items()
    (endpoint,) = on.one("PodMonitor", "eagleray-ray")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    relabelled = {found["targetLabel"]: found["sourceLabels"][0] for found in endpoint["relabelings"]}
    assert relabelled == {
        name: "__meta_kubernetes_pod_label_" + re.sub(r"[^a-z]", "_", label) for label, name in POD_LABELS.items()
    }
    assert on.one("PrometheusRule")["spec"]["groups"]
    dashboard = on.one("ConfigMap", "eagleray-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["eagleray.json"])["panels"]


def test_people_may_use_the_resources_by_the_default_roles(usual: Rendered, render: Render) -> None:
    view, edit = usual.one("ClusterRole", "eagleray-view"), usual.one("ClusterRole", "eagleray-edit")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert all(verbs == {"get", "list", "watch"} for verbs in rights(view).values())
    assert not any(resource.endswith("/status") for _, resource in rights(edit))
    assert len(render("rbac.aggregateToDefaultRoles=false").all("ClusterRole")) == 1


@pytest.mark.parametrize(
    "setting",
    [
        "unknown=1",
        "settings.unknown=1",
        "settings.network.unknown=1",
        "replicas=two",
        "modelStore.uri=http://models",
        "modelStore.uri=hf://owner",
        "runtime.images.pullPolicy=Sometimes",
        "settings.servingEnvironment.RAY_AUTH_MODE=disabled",
        "podSecurityContext.runAsUser=0",
    ],
)
def test_the_schema_refuses(run: Run, setting: str) -> None:
    result = run("template", "eagleray", str(CHART), "--set", setting)
    assert result.returncode != 0
    assert setting.split("=")[0].split(".")[-1] in result.stderr


def test_two_releases_do_not_meet(render: Render, usual: Rendered) -> None:
    def names(rendered: Rendered) -> set[tuple[str, str]]:
        return {(found["kind"], found["metadata"]["name"]) for found in rendered if found["kind"] != "CustomResourceDefinition"}

    assert not names(usual) & names(render(release="second"))


def test_a_digest_takes_the_place_of_a_tag(render: Render) -> None:
    spec = render("image.tag=sha256:abc").one("Deployment")["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "eagleray/operator@sha256:abc"


def leaves(values: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found += leaves(value, f"{path}{key}.") if isinstance(value, dict) and value else [f"{path}{key}"]
    return found


def test_every_value_is_described() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    undescribed = []
    for number, line in enumerate(lines):
        if re.match(r"^ *[a-zA-Z]+:( \S.*)$", line):
            above = number - 1
            while lines[above].strip().startswith("#") and not lines[above].strip().startswith("# --"):
                above -= 1
            if not lines[above].strip().startswith("# --"):
                undescribed.append(line.strip())
    within_described = {
        "requests: {cpu: 100m, memory: 256Mi}",
        "limits: {memory: 512Mi}",
        "runAsUser: 65532",
        "runAsGroup: 65532",
    }
    assert set(undescribed) <= within_described | {"fsGroup: 65532"}


@pytest.mark.parametrize("uri", ["s3://m/a", "gs://m", "abfs://m/a", "hf://owner/models/a", "pvc://m"])
def test_models_may_be_kept_in_every_store(render: Render, uri: str) -> None:
    assert Settings.model_validate(settings_of(render(f"modelStore.uri={uri}"))).model_store == ModelStore(uri=uri)


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        if "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        known = set(schema["properties"]) - {"global", "fsGroupChangePolicy", "supplementalGroups"}
        assert known == set(values), path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(schema["properties"][key], value, f"{path}.{key}")

    compare(schema, values, "")


def test_the_charts_definitions_are_a_copy() -> None:
    copies = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CHART / "files" / "crds").iterdir())]
    expected = sorted(crd.definitions().values(), key=lambda found: str(found["metadata"]["name"]))
    assert sorted(copies, key=lambda found: str(found["metadata"]["name"])) == expected


def test_the_icon_is_a_picture() -> None:
    icon = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["icon"]
    picture = ElementTree.fromstring(base64.b64decode(icon.removeprefix("data:image/svg+xml;base64,")))  # noqa: S314
    assert picture.tag.endswith("svg")


def test_no_template_names_a_version_of_an_image() -> None:
    for path in sorted(Path(CHART / "templates").rglob("*.yaml")):
        assert not re.search(r"image: [a-z]", path.read_text(encoding="utf-8")), path.name


def test_the_notes_say_that_kuberay_is_missing(run: Run) -> None:
    result = run("install", "eagleray", str(CHART), "--namespace", NAMESPACE, "--dry-run=client")
    assert result.returncode == 0, result.stderr
    assert "KubeRay is MISSING" in result.stdout
