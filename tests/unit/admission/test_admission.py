import copy
from typing import Any

import pytest

from eagleray_operator.cluster.admission import Admission, RefusedError, admit_config_map, admit_secret, judges

JUDGES = judges()


def job(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "line", "namespace": "default"},
        "spec": {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}, **spec},
    }


def admitted(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    return JUDGES[manifest["kind"]](manifest, old)


def problems(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(RefusedError) as refused:
        admitted(manifest, old)
    assert refused.value.status == 422
    return [str(problem) for problem in refused.value.problems]


def test_defaults_are_filled_in_at_every_depth() -> None:
    spec = admitted(job(training={"optimizer": {"learningRate": 1}}))["spec"]
    assert spec["training"]["epochs"] == 20
    assert spec["training"]["optimizer"] == {"type": "Auto", "learningRate": 1}
    assert spec["data"]["preparation"]["scaling"] == "Standard"
    assert spec["workers"] == {"min": 1, "cpus": 1.0, "gpus": 0}


def test_a_null_counts_as_absent_and_gets_the_default() -> None:
    spec = admitted(job(training=None, suspend=None))["spec"]
    assert spec["training"]["epochs"] == 20
    assert spec["suspend"] is False


def test_what_is_admitted_is_left_as_it_is_when_it_is_admitted_again() -> None:
    once = admitted(job())
    assert admitted(once, once) == once


def test_the_object_that_was_handed_in_is_not_changed() -> None:
    manifest = job(training=None)
    before = copy.deepcopy(manifest)
    admitted(manifest)
    assert manifest == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"epochs": 5}}, "spec: training of a job cannot change: create a new job"),
        ({"workers": {"cpus": 2}}, "spec: workers.cpus and workers.gpus of a job cannot change: create a new job"),
        (
            {"search": {"parameters": [{"field": "training.epochs", "numbers": [1]}]}},
            "spec: search of a job cannot change: create a new job",
        ),
        ({"model": {"family": "MultilayerPerceptron"}}, "spec: model of a job cannot change: create a new job"),
    ],
)
def test_what_is_fixed_in_a_job_cannot_change(change: dict[str, Any], message: str) -> None:
    assert problems(job(**change), admitted(job())) == [message]


@pytest.mark.parametrize("change", [{"suspend": True}, {"workers": {"min": 1, "max": 1}}, {"runPolicy": {"backoffLimit": 0}}])
def test_what_is_free_in_a_job_can_change(change: dict[str, Any]) -> None:
    assert admitted(job(**change), admitted(job()))["spec"] != admitted(job())["spec"]


def test_local_mode_takes_files_as_stores() -> None:
    manifest = job(data={"uri": "file:///data/rows.csv", "target": "price"})
    assert admitted(manifest)["spec"]["data"]["uri"] == "file:///data/rows.csv"


def test_a_rule_that_cannot_be_evaluated_is_a_refusal() -> None:
    rule = {"rule": "self.spec.there == 1", "message": "there must be 1"}
    schema = {
        "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {"there": {"type": "integer"}}},
        },
        "x-kubernetes-validations": [rule],
    }
    with pytest.raises(RefusedError, match=r"there must be 1 \(the rule could not be evaluated"):
        Admission(schema)({"metadata": {"name": "a"}, "spec": {}})


def test_rules_see_numbers_as_doubles_even_without_a_fraction() -> None:
    rule = {"rule": "self.share < 1.5", "message": "too much"}
    part = {"type": "object", "properties": {"share": {"type": "number"}}, "x-kubernetes-validations": [rule]}
    schema = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": part}}
    assert Admission(schema)({"metadata": {"name": "a"}, "spec": {"share": 1}})["spec"] == {"share": 1}
    with pytest.raises(RefusedError, match="spec: too much"):
        Admission(schema)({"metadata": {"name": "a"}, "spec": {"share": 2}})


def test_rules_of_a_broken_part_wait_while_those_of_sound_parts_speak() -> None:
    manifest = job(
        training={"epochs": "ten", "batchSize": 2, "optimizer": {"type": "GradientDescent"}}, workers={"min": 3, "max": 2}
    )
    assert problems(manifest) == [
        'spec.training.epochs: must be a whole number, not "ten"',
        "spec.workers: min is above max",
    ]


def config_map(**content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, **content}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {"a": 1}}, "data.a: must be a string, not 1: put it in quotes"),
        ({"data": {"a/b": "1"}}, "data.a/b: is no key"),
        ({"dta": {}}, "dta: unknown field, did you mean data?"),
        ({"binaryData": {"a": "%"}}, "binaryData.a: must be base64"),
        ({"data": {"a": "x" * (1 << 20), "b": "x"}}, "data: must have at most 1048576 bytes, has 1048577"),
    ],
)
def test_a_config_map_is_refused_as_the_apiserver_refuses_it(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        admit_config_map(config_map(**content))
    assert message in str(refused.value)


def test_strings_of_a_secret_become_its_data() -> None:
    secret = admit_secret({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"a": "b"}})
    assert secret["data"] == {"a": "Yg=="}
    assert secret["type"] == "Opaque"
    assert "stringData" not in secret
