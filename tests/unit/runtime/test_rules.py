"""The rules of the spec, judged without a library for CEL as the apiserver judges them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cel_expr_python import cel

from eagleray_runtime.contract.blocks import Block, Model, Preparation, Rule, Training
from eagleray_runtime.contract.rules import broken, holds

CORPUS = Path(__file__).parents[2] / "contract" / "manifests"
PARTS = {"model": Model, "training": Training}


def blocks(block: Block) -> Iterator[Block]:
    yield block
    for name in type(block).model_fields:
        value = getattr(block, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Block):
                yield from blocks(inner)


def parts(path: Path) -> list[Block]:
    """What a search may vary of the jobs of a manifest, where it has the right shape."""
    found: list[Block] = []
    for manifest in yaml.safe_load_all(path.read_text()):
        spec = (manifest or {}).get("spec") or {}
        if (manifest or {}).get("kind") != "TrainingJob" or not isinstance(spec, dict):
            continue
        wanted = {
            Preparation: (spec.get("data") or {}).get("preparation"),
            Model: spec.get("model"),
            Training: spec.get("training"),
        }
        for block, values in wanted.items():
            try:
                found.append(block.model_validate(values or {}))
            except ValueError:
                continue
    return found


def by_cel(block: Block) -> list[str]:
    """The messages of the rules that a block does not keep, as a library for CEL sees it."""
    environment = cel.NewEnv(variables={"self": cel.Type.DYN})
    values = block.model_dump(mode="json", by_alias=True, exclude_none=True)
    return [
        rule.message
        for rule in block.rules
        if environment.compile(rule.expression).eval(data={"self": values}).value() is not True
    ]


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_a_rule_is_broken_where_a_library_for_cel_finds_it_broken(path: Path) -> None:
    for part in parts(path):
        assert list(broken(part)) == [message for block in blocks(part) for message in by_cel(block)]


def test_the_corpus_breaks_every_rule_of_what_a_search_may_vary() -> None:
    def rules(block: type[Block]) -> Iterator[Rule]:
        yield from block.rules
        for info in block.model_fields.values():
            for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
                if isinstance(inner, type) and issubclass(inner, Block):
                    yield from rules(inner)

    told = {message for path in CORPUS.glob("bad/*.yaml") for part in parts(path) for message in broken(part)}
    expected = {rule.message for block in (Preparation, Model, Training) for rule in rules(block)}
    assert expected - told == set()


@pytest.mark.parametrize("expression", ["self.a + 1 == 2", "self.a.size() > 0", "self.a is None", "other.a"])
def test_what_no_rule_may_say_is_an_error_and_no_verdict(expression: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        holds(expression, {"a": 1})
