"""What the network lets in and out, beyond what tests/golden shows."""

from typing import Any

import pytest

from eagleray_operator.children import networkpolicy
from eagleray_operator.settings import NetworkSettings, Settings
from tests.support.makers import SETTINGS, deployment, job


def policy(kind: str, **network: Any) -> dict[str, Any]:
    settings = SETTINGS.model_copy(update={"network": NetworkSettings(**network), "namespace": "platform"})
    owner = job() if kind == "TrainingJob" else deployment()
    spec: dict[str, Any] = networkpolicy.build(kind, owner.metadata, settings)["spec"]
    return spec


@pytest.mark.parametrize(
    ("cidr", "excepted"),
    [
        ("0.0.0.0/0", ["169.254.0.0/16"]),
        ("::/0", ["fd00:ec2::254/128"]),
        ("169.0.0.0/8", ["169.254.0.0/16"]),
        ("10.0.0.0/8", None),
        ("169.254.0.0/16", None),
    ],
)
def test_the_exceptions_of_a_block_are_those_that_lie_within_it(cidr: str, excepted: list[str] | None) -> None:
    spec = policy("TrainingJob", egress_cidrs=[cidr], egress_except=["169.254.0.0/16", "fd00:ec2::254/128"])
    (block,) = [peer["ipBlock"] for rule in spec["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]
    assert block == {"cidr": cidr} | ({"except": excepted} if excepted else {})


def test_no_block_at_all_lets_nothing_out_but_to_each_other_and_dns() -> None:
    first, second, third = policy("TrainingJob", egress_cidrs=[], egress_except=[])["egress"]
    assert [peer["podSelector"] for peer in first["to"]] == [{"matchLabels": {"eagleray.io/training-job": "iris"}}]
    assert {port["port"] for port in second["ports"]} == {53}
    assert "namespaceSelector" in third["to"][0]


def test_only_a_job_reaches_the_operator_and_only_its_reports() -> None:
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "platform"}}}
    rules = [rule for rule in policy("TrainingJob")["egress"] if rule.get("to") == [operator]]
    assert rules == [{"to": [operator], "ports": [{"port": 80, "protocol": "TCP"}]}]
    assert not any(rule.get("to") == [operator] for rule in policy("ModelDeployment")["egress"])
    silent = networkpolicy.build("TrainingJob", job().metadata, Settings())["spec"]["egress"]
    assert len(silent) == 3


def test_prometheus_is_let_in_where_its_namespace_is_named() -> None:
    assert not any({"port": 8080, "protocol": "TCP"} in rule.get("ports", []) for rule in policy("TrainingJob")["ingress"])
    scraped = policy("TrainingJob", monitoring_namespace="monitoring")["ingress"][-1]
    assert scraped["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert scraped["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
