"""The shared corpus of manifests: each gets the verdict that it gets from a real apiserver (tests/integration asks one)."""

import re
from pathlib import Path

import pytest

from eagleray_operator.api import crd
from eagleray_operator.cluster.admission import judges
from eagleray_operator.local.manifests import ManifestError, admit, parse

REPOSITORY = Path(__file__).parents[3]
CORPUS = REPOSITORY / "tests" / "contract" / "manifests"
JUDGES = judges(crd.URI_SCHEMES)
EXPECTED = "# refused: "


def files(folder: str) -> list[Path]:
    return sorted((CORPUS / folder).iterdir())


def check(path: Path) -> None:
    documents = parse(path.read_text(), path.name)
    for document in documents:
        document.manifest["metadata"].setdefault("namespace", "default")
    admit(documents, JUDGES)


@pytest.mark.parametrize("path", files("good"), ids=lambda path: path.stem)
def test_a_good_manifest_is_taken(path: Path) -> None:
    check(path)


@pytest.mark.parametrize("path", files("bad"), ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_with_its_path_and_in_clear_words(path: Path) -> None:
    expected = [line.removeprefix(EXPECTED) for line in path.read_text().splitlines() if line.startswith(EXPECTED)]
    assert expected
    with pytest.raises(ManifestError) as refused:
        check(path)
    for words in expected:
        assert words in str(refused.value)
    assert len(refused.value.problems) == len(expected), str(refused.value)
    for problem in refused.value.problems:
        assert problem.startswith(f"{path.name}:")


def test_the_corpus_has_a_bad_manifest_for_each_rule_that_is_not_about_changes() -> None:
    def rules(schema: object) -> set[str]:
        found: set[str] = set()
        if isinstance(schema, dict):
            found |= {rule["message"] for rule in schema.get("x-kubernetes-validations", []) if "oldSelf" not in rule["rule"]}
            for value in schema.values():
                found |= rules(value)
        elif isinstance(schema, list):
            for value in schema:
                found |= rules(value)
        return found

    told = "\n".join(path.read_text() for path in files("bad"))
    definitions = crd.definitions().values()
    messages = {message for definition in definitions for message in rules(definition["spec"]["versions"][0]["schema"])}
    missing = [message for message in messages if message[:20] not in told]
    assert not missing


EXAMPLES = [
    (file.name, number, block)
    for file in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", file.read_text(), re.DOTALL))
    if "eagleray.io/v1alpha1" in block
]


@pytest.mark.parametrize(("file", "number", "block"), EXAMPLES, ids=lambda value: str(value)[:20])
def test_what_the_documents_show_is_taken(file: str, number: int, block: str, tmp_path: Path) -> None:
    shown = tmp_path / f"{file}-{number}.yaml"
    shown.write_text(block)
    check(shown)
