"""Specs from our definitions' own schemas, most of them wrong somewhere: bounds and beyond, strange text, nothing at all."""

import copy
from typing import Any

from hypothesis import strategies as st

from eagleray_operator.api import crd
from tests.faults.api import Manifest

STRANGE = ("", " ", "null", "~", "é\u202e💥", "a" * 300, "x" * 5000, "../..", "{{.}}", "0", "-1", "s3://bad host/x", "a\nb")
NUMBERS = (-1, 0, 1, 2, 3, 7, 64, 65, 1000, 1001, 2**31 - 1, 2**31, 2**63)
BASES: dict[str, Manifest] = {
    "ModelDeployment": {"model": {"uri": "s3://models/shop"}},
    "TrainingJob": {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}},
}
"""Specs that are right, one of each kind."""


def schema_of(kind: str) -> Manifest:
    version = next(d for d in crd.definitions().values() if d["spec"]["names"]["kind"] == kind)["spec"]["versions"][0]
    found: Manifest = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def values(schema: Manifest) -> st.SearchStrategy[Any]:
    """Values that the schema's types allow, at its bounds and a step beyond them, and now and then another type."""
    return st.one_of(*[_typed(schema)] * 9, st.sampled_from([None, [], {}, "text", -1, True]))


def _typed(schema: Manifest) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from([*schema["enum"], "Other"])
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        required = set(schema.get("required", ()))
        properties = {key: values(value) for key, value in schema["properties"].items()}
        return st.fixed_dictionaries(
            {key: value for key, value in properties.items() if key in required},
            optional={key: value for key, value in properties.items() if key not in required},
        ).flatmap(_perhaps_with_more)
    if kind == "array":
        return st.lists(values(schema.get("items", {})), max_size=3)
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "number"):
        bounds = [schema[key] + step for key in ("minimum", "maximum") if key in schema for step in (-1, 0, 1)]
        fractions = [0.5, 1e-9, 1e300] if kind == "number" else []
        return st.sampled_from([*NUMBERS, *bounds, *fractions])
    return st.one_of(st.sampled_from(STRANGE), st.text(max_size=20), st.sampled_from(["s3://models/a", "4Gi", "iris"]))


def _perhaps_with_more(found: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from([found, found, found, {**found, "unknownField": 1}])


@st.composite
def edited(draw: st.DrawFn, kind: str) -> Manifest:
    """The right spec with one property, at any depth, made something else; sometimes a whole new spec."""
    schema = schema_of(kind)
    if draw(st.integers(0, 9)) == 0:
        whole: Manifest = draw(_typed(schema))
        return whole
    spec = copy.deepcopy(BASES[kind])
    place, at = spec, schema
    while True:
        key = draw(st.sampled_from(sorted(at["properties"])))
        below = at["properties"][key]
        if "properties" not in below or draw(st.integers(0, 4)) == 0:
            place[key] = draw(values(below))
            return spec
        inner = place.get(key)
        place[key] = inner if isinstance(inner, dict) else {}
        place, at = place[key], below


def sequences(kind: str) -> st.SearchStrategy[list[Manifest]]:
    """Specs that follow one another before it is the right one again."""
    return st.lists(edited(kind), min_size=1, max_size=4)
