"""Custom resource definitions from the models: structural schemas with defaults and CEL rules."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from eagleray_operator.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from eagleray_runtime.contract.blocks import Block, Rule
from eagleray_runtime.contract.stores import STORES

Schema = dict[str, Any]

URI_SCHEMES = tuple(STORES)
LOCAL_URI_SCHEMES = (*STORES, "file")

NAME_RULE = Rule(
    f"self.metadata.name.size() <= {names.NAME_MAX} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name: at most {names.NAME_MAX} of a-z, 0-9 and -, first a letter: the names of the children grow from it",
)

MAP_MAX = 64
ARRAY_MAX = 1024
STRING_MAX = 4096


def uri_rule(schemes: Sequence[str]) -> Rule:
    """Rule for every URI: a known store, no user, port, query, parent folder or address in numbers."""
    allowed = "|".join(schemes)
    path = r"(/[A-Za-z0-9._~@=+,/ *-]*)?"
    shape = (
        f"self.matches('^({allowed})://([a-zA-Z0-9][a-zA-Z0-9._-]*)?{path}$')"
        if "file" in schemes
        else (f"self.matches('^({allowed})://[a-zA-Z0-9][a-zA-Z0-9._-]*{path}$')")
    )
    return Rule(
        f"{shape} && !self.contains('..') && !self.matches('^[a-z0-9]+://[0-9.]+(/|$)')",
        f"write {', '.join(schemes[:-1])} or {schemes[-1]}://name/path; no user, port, query, .. or IP address",
    )


HUB_RULE = Rule(
    "!self.startsWith('hf://') || self.matches('^hf://[^/]+/[^/]+') && "
    "!self.matches('^hf://(datasets/[^/]*/?|(models|spaces|kernels|buckets)/.*)$')",
    "write hf://owner/repository/path, or hf://datasets/owner/repository/path",
)


def _validations(rules: Iterable[Rule]) -> list[dict[str, str]]:
    return [{"rule": rule.expression, "message": rule.message} for rule in rules]


def _inline(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Resolve references and drop what a structural schema may not hold."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inline({**target, **rest}, definitions)
    if "allOf" in node and len(node["allOf"]) == 1:
        rest = {key: value for key, value in node.items() if key != "allOf"}
        return _inline({**node["allOf"][0], **rest}, definitions)
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"no structural schema for a union of {len(options)} types: {node}")
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _inline({**options[0], **rest}, definitions)
    return {key: _inline(value, definitions) for key, value in node.items()}


def _scalar(schema: Schema) -> Schema:
    """Bounds as OpenAPI 3.0 has them, a limit on every string, no titles."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in schema and not isinstance(schema[bound], bool):
            schema[limit] = schema.pop(bound)
            schema[bound] = True
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.pop("x-kubernetes-int-or-string", False):
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            **{key: value for key, value in schema.items() if key in ("pattern", "description", "default")},
        }
    if schema.get("type") == "string" and "enum" not in schema and "format" not in schema:
        schema.setdefault("maxLength", STRING_MAX)
    if schema.get("type") == "integer":
        schema.setdefault("format", "int64")
    return schema


def _default(field: FieldInfo) -> Any:
    """The default that the apiserver fills in; None where there is none."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return value


def _walk(schema: Schema, model: type[BaseModel] | None, schemes: Sequence[str], with_defaults: bool) -> Schema:
    """Turn one inlined JSON schema into a structural one; `model` is the block behind an object."""
    schema = dict(schema)
    if schema.pop("x-eagleray-uri", False):
        schema["x-kubernetes-validations"] = _validations([uri_rule(schemes), HUB_RULE])
    if schema.get("type") == "array":
        schema["items"] = _walk(schema["items"], _block_of(model), schemes, with_defaults)
        schema.setdefault("maxItems", ARRAY_MAX)
        return {key: value for key, value in schema.items() if key != "title" and not (key == "default" and not with_defaults)}
    if schema.get("type") == "object" and "properties" not in schema:
        values = schema.get("additionalProperties", {})
        result: Schema = {
            "type": "object",
            "additionalProperties": _walk(values, None, schemes, with_defaults),
            "maxProperties": MAP_MAX,
        }
        if "description" in schema:
            result["description"] = schema["description"]
        return result
    if schema.get("type") != "object":
        result = _scalar(schema)
        if not with_defaults:
            result.pop("default", None)
        return result
    if model is None:
        raise ValueError(f"an object without a block: {schema}")
    result = {"type": "object", "properties": {}}
    if "description" in schema:
        result["description"] = " ".join(str(schema["description"]).split())
    for field_name, field in model.model_fields.items():
        alias = field.alias or field_name
        child = schema["properties"][alias]
        property_ = _walk(child, _block_of(field.annotation), schemes, with_defaults)
        property_.pop("default", None)
        if with_defaults and (default := _default(field)) is not None:
            property_["default"] = json.loads(json.dumps(default))
        result["properties"][alias] = property_
    required = [name for name in schema.get("required", []) if name in result["properties"]]
    if required:
        result["required"] = required
    rules: Sequence[Rule] = getattr(model, "rules", ())
    if rules:
        result["x-kubernetes-validations"] = _validations(rules)
    return result


def _block_of(annotation: Any) -> type[BaseModel] | None:
    """The block within an annotation such as `Block | None` or `list[Block]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _block_of(argument)) is not None:
            return found
    return None


def structural_schema(model: type[Block], schemes: Sequence[str] = URI_SCHEMES, *, with_defaults: bool = True) -> Schema:
    """Structural schema of a block; `with_defaults` is off for status, which nobody fills in for us."""
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    return _walk(_inline(raw, definitions), model, schemes, with_defaults)


def _column(name: str, path: str, type_: str = "string", *, wide: bool = False, description: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": type_, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


def _condition(type_: str, key: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{key}'


_AGE = _column("Age", ".metadata.creationTimestamp", "date")


def _definition(
    *,
    kind: str,
    plural: str,
    short: str,
    spec: type[Block],
    status: type[Block],
    columns: list[dict[str, Any]],
    scale: dict[str, str] | None,
    schemes: Sequence[str],
) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if scale:
        subresources["scale"] = scale
    root = {
        "type": "object",
        "description": " ".join((spec.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(spec, schemes),
            "status": structural_schema(status, schemes, with_defaults=False),
        },
        "x-kubernetes-validations": _validations([NAME_RULE]),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["all", "eagleray"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }


def definitions(schemes: Sequence[str] = URI_SCHEMES) -> dict[str, dict[str, Any]]:
    """The custom resource definitions by kind."""
    return {
        names.TRAINING_JOB: _definition(
            kind=names.TRAINING_JOB,
            plural="trainingjobs",
            short="tjob",
            spec=TrainingJobSpec,
            status=TrainingJobStatus,
            columns=[
                _column("Succeeded", _condition("Succeeded", "status")),
                _column("Reason", _condition("Progressing", "reason")),
                _column("Progress", ".status.progress.percent", "integer", description="Percent of the whole job."),
                _column(
                    "Left",
                    ".status.progress.estimatedRemainingSeconds",
                    "integer",
                    description="Seconds left.",
                ),
                _AGE,
                _column("Family", ".spec.model.family", wide=True),
                _column("Workers", ".status.progress.workers", "integer", wide=True),
                _column("Digest", ".status.model.digest", wide=True),
                _column("Message", _condition("Succeeded", "message"), wide=True),
            ],
            scale=None,
            schemes=schemes,
        ),
        names.MODEL_DEPLOYMENT: _definition(
            kind=names.MODEL_DEPLOYMENT,
            plural="modeldeployments",
            short="mdep",
            spec=ModelDeploymentSpec,
            status=ModelDeploymentStatus,
            columns=[
                _column("Ready", _condition("Ready", "status")),
                _column("Reason", _condition("Ready", "reason")),
                _column("Desired", ".status.replicas.desired", "integer"),
                _column("Up", ".status.replicas.ready", "integer"),
                _column("URL", ".status.url"),
                _AGE,
                _column("Engine", ".status.model.engine", wide=True),
                _column("Revision", ".status.activeRevision", wide=True),
                _column("Digest", ".status.model.digest", wide=True),
                _column("Message", _condition("Ready", "message"), wide=True),
            ],
            scale={
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas.current",
                "labelSelectorPath": ".status.selector",
            },
            schemes=schemes,
        ),
    }
