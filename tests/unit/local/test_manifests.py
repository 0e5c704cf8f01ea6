"""YAML as kubectl reads it."""

from pathlib import Path
from typing import Any

import pytest

from eagleray_operator.local.manifests import ManifestError, parse, plain, read

JOB = """apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {name: line}
spec: {}
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")),
        *((word, False) for word in ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, word) for word in ("yEs", "oN", "nULL", "1:30", "2001-01-01", "1e400", "_1", "-", ".", "0.1.2", "0x", "1e")),
        ("1e3", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("+1", 1),
        ("-1_000", -1000),
        ("010", 8),
        ("0o10", 8),
        ("08", 8),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1e-3", 0.001),
    ],
)
def test_a_plain_word_has_the_value_that_kubectl_gives_it(text: str, value: Any) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


def value(text: str) -> Any:
    [document] = parse(text, "file.yaml")
    return document.manifest


def test_quoted_words_are_strings() -> None:
    assert value("{a: 'yes', b: \"1\", c: !!str 1}") == {"a": "yes", "b": "1", "c": "1"}


def test_keys_become_strings() -> None:
    assert value("{1: a, yes: b, 1.5: c}") == {"1": "a", "true": "b", "1.5": "c"}


def test_anchors_and_merges_are_resolved() -> None:
    assert value("{a: &x {b: 1}, c: *x, d: {<<: *x, e: 2}}") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3: key a is there already"),
        ('{"a": 1, "a": 2}', "file.yaml:1: key a is there already"),
        ('{"a": NaN}', "file.yaml:1: NaN is no JSON number"),
        ('{"a": "\\ud800"}', "file.yaml:1: \\ud800 is half of a character"),
        ('a: "\\udc00"\n', "file.yaml:1: \\udc00 is half of a character"),
        ("a: " + "9" * 5000, "file.yaml:1: a number of 5000 digits"),
        ('{"a": ' * 100_000, "file.yaml:1: nested too deeply"),
        ("a: .inf\n", "file.yaml:1: .inf is no JSON number"),
        ("a: &x [*x]\n", "file.yaml:1: an anchor that contains itself"),
        ("a: 1\nb: !thing 2\n", "file.yaml:2: tag !thing is not known"),
        ("a: [1\nb: 2\n", "file.yaml:2: "),
        ("- 1\n- 2\n", "file.yaml:1: an object has apiVersion, kind and metadata; this is none"),
        ("a: !!int x\n", "file.yaml:1: 'x' is no int"),
    ],
)
def test_what_kubectl_cannot_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as refused:
        parse(text, "file.yaml")
    assert message in str(refused.value)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ManifestError, match="more than 100000 values"):
        parse("\n".join(lines), "file.yaml")


def test_each_document_and_field_knows_its_line() -> None:
    first, second = parse(f"# words\n{JOB}---\n{JOB}", "file.yaml")
    assert (first.line, second.line) == (2, 7)
    assert second.position(("spec",)) == "file.yaml:10"
    assert second.position(("spec", "training", "epochs")) == "file.yaml:10"


def test_lists_are_taken_apart_and_keep_their_lines() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n"
    [document] = parse(text, "file.yaml")
    assert document.manifest["kind"] == "ConfigMap"
    assert document.position(("metadata", "name")) == "file.yaml:6"


def test_several_json_objects_may_follow_one_another() -> None:
    documents = parse('{"a": 1}\n{"b": 2.0}\n', "file.json")
    assert [document.manifest for document in documents] == [{"a": 1}, {"b": 2}]
    assert [document.line for document in documents] == [1, 2]


def test_empty_documents_are_passed_over() -> None:
    assert len(parse(f"---\n---\n# nothing\n---\n{JOB}---\n", "file.yaml")) == 1


def test_objects_without_a_namespace_get_the_one_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB)
    (tmp_path / "b.yml").write_text(JOB.replace("{name: line}", "{name: line, namespace: own}"))
    (tmp_path / "c.txt").write_text("not a manifest")
    namespaces = [document.manifest["metadata"]["namespace"] for document in read([str(tmp_path)], "team")]
    assert namespaces == ["team", "own"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            JOB.replace("TrainingJob", "Deployment"),
            "local mode takes TrainingJob, ModelDeployment, ConfigMap, Secret; Deployment needs a cluster",
        ),
        (JOB.replace("v1alpha1", "v1"), "TrainingJob is eagleray.io/v1alpha1, not eagleray.io/v1"),
        ("metadata: {}\n", "apiVersion and kind is missing"),
        ("", "no object in it"),
    ],
)
def test_objects_that_local_mode_does_not_take_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ManifestError) as refused:
        read([str(file)])
    assert message in str(refused.value)


def test_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ManifestError) as refused:
        read([str(tmp_path / "a.yaml"), str(tmp_path / "missing.yaml")])
    assert len(refused.value.problems) == 2
    assert "missing.yaml: No such file or directory" in str(refused.value)
