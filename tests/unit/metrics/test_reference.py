"""The reference names everything that there is, and nothing else."""

import re
from pathlib import Path

import pytest
import yaml

from eagleray_operator.api import crd, names
from eagleray_operator.api.conditions import ConditionType
from eagleray_operator.api.reasons import Reason
from eagleray_operator.reconcilers.attempts import FINAL

DOCS = Path(__file__).parents[3] / "docs"
REFERENCE = DOCS / "reference"


def reasons() -> dict[str, list[str]]:
    """Cells of each row by reason; the table before the first heading is about conditions."""
    found: dict[str, list[str]] = {}
    _, _, text = (REFERENCE / "reasons.md").read_text(encoding="utf-8").partition("\n## ")
    for line in text.splitlines():
        if match := re.match(r"\| `([^`]+)`", line):
            assert match[1] not in found, f"{match[1]} has two rows"
            found[match[1]] = [cell.strip() for cell in line.strip("|").split("|")]
    return found


def test_every_reason_has_a_row_that_says_what_happened_and_what_to_do() -> None:
    table = reasons()
    assert set(table) == {str(reason) for reason in Reason}
    for word, (_, happened, advice, *_rest) in table.items():
        assert happened, word
        assert advice, word


def test_every_condition_is_explained() -> None:
    before, _, _ = (REFERENCE / "reasons.md").read_text(encoding="utf-8").partition("\n## ")
    for type_ in ConditionType:
        assert f"`{type_}`" in before


def test_the_reference_says_rightly_which_causes_are_tried_again() -> None:
    told = {word: cells[3] for word, cells in reasons().items() if len(cells) == 4 and cells[3] in ("yes", "no")}
    of_the_whole_job = {"DeadlineExceeded", "BackoffLimitExceeded"}
    refused = {word for word, again in told.items() if again == "no"}
    assert refused - of_the_whole_job == {str(reason) for reason in FINAL}


def test_every_label_is_in_the_reference() -> None:
    text = (REFERENCE / "labels.md").read_text(encoding="utf-8")
    for name, value in vars(names).items():
        if name.startswith("LABEL_"):
            assert f"`{value}`" in text, name


PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_every_manifest_in_the_pages_would_be_accepted() -> None:
    admission = pytest.importorskip(
        "eagleray_operator.cluster.admission", reason="cel-expr-python is missing", exc_type=ImportError
    )
    judges = admission.judges(crd.URI_SCHEMES)
    found = 0
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for manifest in yaml.safe_load_all(block):
                if manifest["apiVersion"] == names.API_VERSION:
                    manifest["metadata"].setdefault("namespace", "default")
                    judges[manifest["kind"]](manifest)
                    found += 1
    assert found >= 3
