"""Judges what users apply as the apiserver does, without one: objects of our two kinds, ConfigMaps and Secrets.

The order is the apiserver's: unknown fields, nulls dropped, defaults, types and bounds, then the CEL rules of each part
that is well-formed, transition rules included. All problems are told at once, each with its path and, for a field that
nobody knows, the name that was probably meant. The judge is built from the very definitions that a cluster gets.
"""

import base64
import copy
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_optional, ext_strings
from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError

from eagleray_operator.api import crd, names
from eagleray_operator.cluster.memory import Admit
from eagleray_operator.cluster.port import ClusterError, Manifest

FieldPath = tuple[str | int, ...]
Schema = Mapping[str, Any]

_METADATA = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": dict,
    "annotations": dict,
    "finalizers": list,
    "ownerReferences": list,
    "managedFields": list,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "selfLink": str,
}
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}
_SCHEMA_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an object."""

    path: FieldPath
    message: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.message}" if self.path else self.message


class RefusedError(ClusterError):
    """An object was refused; the text has a line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(422, "\n".join(map(str, self.problems)))


def path_text(path: FieldPath) -> str:
    """A path as kubectl writes it: `spec.data.features[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def unknown_field(name: str, known: Iterable[str]) -> str:
    """What is said of a field that nobody knows."""
    by_lower = {field.lower(): field for field in known}
    if name.lower() in by_lower:
        return f"unknown field, did you mean {by_lower[name.lower()]}?"
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return (
        f"unknown field, did you mean {by_lower[close[0]]}?"
        if close
        else f"unknown field; there are {', '.join(sorted(by_lower.values()))}"
    )


def metadata_problems(metadata: Any) -> list[Problem]:
    """What the apiserver refuses in any object's metadata."""
    if not isinstance(metadata, dict):
        return [Problem(("metadata",), "is missing: an object has at least metadata.name")]
    problems = []
    for key, value in metadata.items():
        if key not in _METADATA:
            problems.append(Problem(("metadata", key), unknown_field(key, _METADATA)))
        elif value is not None and (not isinstance(value, _METADATA[key]) or isinstance(value, bool)):
            hint = ": put it in quotes" if _METADATA[key] is str and not isinstance(value, dict | list) else ""
            problems.append(Problem(("metadata", key), f"must be {_JSON_TYPES[_METADATA[key]]}, not {_show(value)}{hint}"))
    for key in ("labels", "annotations"):
        if isinstance(metadata.get(key), dict):
            problems += _tag_problems(("metadata", key), metadata[key], values_are_labels=key == "labels")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if name is None:
        problems.append(Problem(("metadata", "name"), "is missing"))
    elif isinstance(name, str) and not (len(name) <= 253 and _SUBDOMAIN.match(name)):
        problems.append(
            Problem(
                ("metadata", "name"),
                f"{_show(name)} is no name: lower-case letters, digits, - and ., first and last a letter or digit",
            )
        )
    if isinstance(namespace, str) and not (len(namespace) <= 63 and _DNS_LABEL.match(namespace)):
        problems.append(
            Problem(("metadata", "namespace"), f"{_show(namespace)} is no namespace: up to 63 lower-case letters, digits and -")
        )
    return problems


def _tag_problems(path: FieldPath, tags: Mapping[str, Any], *, values_are_labels: bool) -> Iterator[Problem]:
    for key, value in tags.items():
        prefix, _, name = key.rpartition("/")
        if not (len(name) <= 63 and _LABEL_NAME.match(name)) or ("/" in key and not _SUBDOMAIN.match(prefix)):
            yield Problem(
                (*path, key), "is no label or annotation name: name or domain/name, up to 63 letters, digits, -, _ and ."
            )
        if not isinstance(value, str):
            yield Problem((*path, key), f"must be a string, not {_show(value)}: put it in quotes")
        elif values_are_labels and value and not (len(value) <= 63 and _LABEL_NAME.match(value)):
            yield Problem((*path, key), f"{_show(value)} is no label value: up to 63 letters, digits, -, _ and .")


class Admission:
    """The judge of one kind; call it as the memory cluster does."""

    def __init__(self, schema: Schema) -> None:
        """`schema` is the structural schema of the whole object."""
        self._schema = schema
        self._validator = Draft4Validator(_for_jsonschema(schema))
        self._rules: dict[str, Any] = {}
        self._environment = cel.NewEnv(
            variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN},
            extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_math.ExtMath()],
        )

    def __call__(self, manifest: Manifest, old: Manifest | None = None) -> Manifest:
        """The object with its defaults; raises RefusedError with every problem."""
        manifest = copy.deepcopy(manifest)
        problems = metadata_problems(manifest.get("metadata"))
        problems += _unknown(manifest, self._schema, ())
        if isinstance(manifest.get("metadata"), dict):
            manifest["metadata"] = {key: value for key, value in manifest["metadata"].items() if value is not None}
        _fill(manifest, self._schema)
        errors = sorted(self._validator.iter_errors(manifest), key=lambda error: [str(part) for part in error.absolute_path])
        found = [_problem(error) for error in errors]
        problems += [problem for index, problem in enumerate(found) if problem not in found[:index]]
        broken = [problem.path for problem in problems]
        problems += self._check_rules(manifest, old, self._schema, (), broken)
        if problems:
            raise RefusedError(problems)
        return manifest

    def _check_rules(self, value: Any, old: Any, schema: Schema, path: FieldPath, broken: list[FieldPath]) -> Iterator[Problem]:
        """Check the rules of every part below; of parts with a broken field only those of the well-formed parts in them."""
        if value is None:
            return
        seen = path or ("metadata",)  # all that rules of the whole object may look at
        sound = not any(other[: len(seen)] == seen for other in broken)
        if sound and "x-kubernetes-validations" in schema:
            for rule in schema["x-kubernetes-validations"]:
                transition = re.search(r"\boldSelf\b", rule["rule"]) is not None
                if transition and old is None:
                    continue
                if (failure := self._failure(rule, schema, value, old)) is not None:
                    yield Problem(path, failure)
        if isinstance(value, dict):
            for key, child in value.items():
                part = _child_schema(schema, key)
                if part is not None:
                    yield from self._check_rules(
                        child, old.get(key) if isinstance(old, dict) else None, part, (*path, key), broken
                    )
        elif isinstance(value, list):
            for index, child in enumerate(value):
                yield from self._check_rules(child, None, schema.get("items", {}), (*path, index), broken)

    def _failure(self, rule: Mapping[str, str], schema: Schema, value: Any, old: Any) -> str | None:
        expression = rule["rule"]
        if expression not in self._rules:
            self._rules[expression] = self._environment.compile(expression)
        data = {"self": _typed(value, schema)}
        if old is not None:
            data["oldSelf"] = _typed(old, schema)
        outcome = self._rules[expression].eval(data=data)
        if outcome.type() == cel.Type.BOOL:
            return None if outcome.value() is True else rule.get("message", f"failed rule: {expression}")
        return f"{rule.get('message', expression)} (the rule could not be evaluated: {outcome.value()})"


def admit_config_map(manifest: Manifest, _old: Manifest | None = None) -> Manifest:
    """The judge of ConfigMaps: strings under `data`, base64 under `binaryData`."""
    problems = metadata_problems(manifest.get("metadata"))
    problems += _plain_problems(manifest, {"data": dict, "binaryData": dict, "immutable": bool})
    problems += _key_problems(manifest, "data") + _key_problems(manifest, "binaryData", encoded=True)
    problems += _size_problems(manifest, ("data", "binaryData"))
    if problems:
        raise RefusedError(problems)
    return manifest


def admit_secret(manifest: Manifest, _old: Manifest | None = None) -> Manifest:
    """The judge of Secrets: base64 under `data`; strings under `stringData` are put there."""
    problems = metadata_problems(manifest.get("metadata"))
    problems += _plain_problems(manifest, {"data": dict, "stringData": dict, "type": str, "immutable": bool})
    problems += _key_problems(manifest, "data", encoded=True) + _key_problems(manifest, "stringData")
    problems += _size_problems(manifest, ("data", "stringData"))
    if problems:
        raise RefusedError(problems)
    strings = {key: base64.b64encode(value.encode()).decode() for key, value in (manifest.get("stringData") or {}).items()}
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return {"type": "Opaque", **rest, "data": {**(manifest.get("data") or {}), **strings}}


def _plain_problems(manifest: Manifest, fields: Mapping[str, type]) -> list[Problem]:
    problems = []
    for key, value in manifest.items():
        if key in ("apiVersion", "kind", "metadata") or value is None:
            continue
        if key not in fields:
            problems.append(Problem((key,), unknown_field(key, [*fields, "apiVersion", "kind", "metadata"])))
        elif not isinstance(value, fields[key]):
            problems.append(Problem((key,), f"must be {_JSON_TYPES[fields[key]]}, not {_show(value)}"))
    return problems


def _key_problems(manifest: Manifest, field: str, *, encoded: bool = False) -> list[Problem]:
    values = manifest.get(field)
    problems = []
    for key, value in (values if isinstance(values, dict) else {}).items():
        if not re.match(r"[-._a-zA-Z0-9]{1,253}\Z", key) or key in (".", ".."):
            problems.append(Problem((field, key), "is no key: up to 253 letters, digits, -, _ and ."))
        if not isinstance(value, str):
            problems.append(Problem((field, key), f"must be a string, not {_show(value)}: put it in quotes"))
        elif encoded:
            try:
                base64.b64decode(value.replace("\n", ""), validate=True)
            except ValueError:
                problems.append(Problem((field, key), "must be base64"))
    return problems


def _size_problems(manifest: Manifest, fields: tuple[str, ...]) -> list[Problem]:
    values = [value for field in fields if isinstance(manifest.get(field), dict) for value in manifest[field].values()]
    size = sum(len(value.encode()) for value in values if isinstance(value, str))
    return [Problem((fields[0],), f"must have at most 1048576 bytes, has {size}")] if size > 1 << 20 else []


def judges(schemes: tuple[str, ...] = crd.LOCAL_URI_SCHEMES) -> dict[str, Admit]:
    """The judges of what users may apply, as MemoryCluster takes them; by default those of local mode, which know file URIs."""
    return {
        "ConfigMap": admit_config_map,
        "Secret": admit_secret,
        **{
            kind: Admission(_root(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind))
            for kind, definition in crd.definitions(schemes).items()
        },
    }


def _root(schema: Schema, kind: str) -> dict[str, Any]:
    properties = {
        **schema["properties"],
        "apiVersion": {"type": "string", "enum": [names.API_VERSION]},
        "kind": {"type": "string", "enum": [kind]},
    }
    return {**schema, "properties": properties, "required": ["apiVersion", "kind", *schema.get("required", [])]}


def _child_schema(schema: Schema, key: str) -> Schema | None:
    """Schema of a field of an object, None where the field is unknown."""
    if key in schema.get("properties", {}):
        part: Schema = schema["properties"][key]
        return part
    additional = schema.get("additionalProperties")
    return additional if isinstance(additional, dict) else None


def _is_open(schema: Schema) -> bool:
    """Whether nothing is known of the fields of an object: metadata, which has its own judge."""
    return "properties" not in schema and not isinstance(schema.get("additionalProperties"), dict)


def _unknown(value: Any, schema: Schema, path: FieldPath) -> Iterator[Problem]:
    if isinstance(value, dict) and not _is_open(schema):
        for key, child in value.items():
            part = _child_schema(schema, key)
            if part is None:
                yield Problem((*path, key), unknown_field(key, schema["properties"]))
            else:
                yield from _unknown(child, part, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _unknown(child, schema.get("items", {}), (*path, index))


def _fill(value: Any, schema: Schema) -> None:
    """Drop unknown fields and nulls and fill in defaults, in place; a default is filled in turn with those inside it."""
    if isinstance(value, dict) and not _is_open(schema):
        for key in list(value):
            part = _child_schema(schema, key)
            if part is None or (value[key] is None and not part.get("nullable", False)):
                del value[key]
        for key, part in schema.get("properties", {}).items():
            if key not in value and "default" in part:
                value[key] = copy.deepcopy(part["default"])
        for key, child in value.items():
            _fill(child, _child_schema(schema, key) or {})
    elif isinstance(value, list):
        for child in value:
            _fill(child, schema.get("items", {}))


def _for_jsonschema(schema: Any) -> Any:
    """The structural schema as JSON schema draft 4: nullable as a type, patterns that end where Go's end."""
    if isinstance(schema, list):
        return [_for_jsonschema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {
        key: {name: _for_jsonschema(part) for name, part in value.items()} if key == "properties" else _for_jsonschema(value)
        for key, value in schema.items()
        if key not in ("default", "description", "x-kubernetes-validations", "format")
    }
    if "pattern" in result:
        result["pattern"] = re.sub(r"(?<!\\)\$", r"\\Z", result["pattern"])
    if result.pop("nullable", False):
        result["type"] = [result["type"], "null"]
    if schema.get("format") in ("int32", "int64"):
        limit = 2 ** (int(schema["format"][3:]) - 1)
        result["maximum"] = min(result.get("maximum", limit - 1), limit - 1)
        result["minimum"] = max(result.get("minimum", -limit), -limit)
    return result


def _typed(value: Any, schema: Schema) -> Any:
    """The value as its rule sees it: numbers are doubles even where none has a fraction."""
    if isinstance(value, dict):
        return {key: _typed(child, _child_schema(schema, key) or {}) for key, child in value.items()}
    if isinstance(value, list):
        return [_typed(child, schema.get("items", {})) for child in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problem(error: ValidationError) -> Problem:
    path: FieldPath = tuple(error.absolute_path)
    value, bound = error.instance, error.validator_value
    match error.validator:
        case "required":
            missing = next(name for name in bound if f"'{name}' is a required" in error.message)
            return Problem((*path, missing), "is missing")
        case "type":
            wanted = [_SCHEMA_TYPES[name] for name in ([bound] if isinstance(bound, str) else bound) if name != "null"]
            hint = ": put it in quotes" if bound == "string" and not isinstance(value, dict | list) else ""
            return Problem(path, f"must be {' or '.join(wanted)}, not {_show(value)}{hint}")
        case "anyOf":
            return Problem(path, f"must be a whole number or a string, not {_show(value)}")
        case "enum":
            close = difflib.get_close_matches(str(value).lower(), [str(item).lower() for item in bound], n=1, cutoff=0.5)
            meant = next((item for item in bound if close and str(item).lower() == close[0]), None)
            hint = f", did you mean {meant}?" if meant is not None else ""
            return Problem(path, f"{_show(value)} is none of {', '.join(map(str, bound))}{hint}")
        case "minimum":
            return Problem(
                path, f"must be {'above' if error.schema.get('exclusiveMinimum') else 'at least'} {bound}, not {_show(value)}"
            )
        case "maximum":
            return Problem(
                path, f"must be {'below' if error.schema.get('exclusiveMaximum') else 'at most'} {bound}, not {_show(value)}"
            )
        case "minLength":
            return Problem(path, f"must have at least {bound} characters" if bound > 1 else "must not be empty")
        case "maxLength":
            return Problem(path, f"must have at most {bound} characters, has {len(value)}")
        case "minItems":
            return Problem(path, f"must have at least {bound} items, has {len(value)}")
        case "maxItems":
            return Problem(path, f"must have at most {bound} items, has {len(value)}")
        case "maxProperties":
            return Problem(path, f"must have at most {bound} keys, has {len(value)}")
        case "pattern" if error.schema.get("x-kubernetes-int-or-string"):
            return Problem(path, f"{_show(value)} is no quantity such as 500m, 2Gi or 1")
        case "pattern":
            return Problem(path, f"{_show(value)} does not match {str(bound).replace(chr(92) + 'Z', '$')}")
    return Problem(path, error.message)
