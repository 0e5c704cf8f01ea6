"""Reads manifests as kubectl does: several YAML documents or JSON objects a file, with YAML's words of version 1.1.

kubectl reads `y`, `no` and `on` as booleans, `1e3` as a number, `1:30` and dates as strings, and makes every key a string.
A key that stands twice is refused. Everything keeps the line that it stands on, for messages.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eagleray_operator.api import names
from eagleray_operator.cluster.admission import FieldPath, RefusedError
from eagleray_operator.cluster.memory import Admit
from eagleray_operator.cluster.port import Manifest, Ref

KINDS = {"TrainingJob": names.API_VERSION, "ModelDeployment": names.API_VERSION, "ConfigMap": "v1", "Secret": "v1"}
"""Kinds that local mode takes, with their apiVersion."""

NODES_MAX = 100_000
"""Most values in a file, aliases counted each time."""

_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_SPECIAL = frozenset({".nan", ".NaN", ".NAN", *(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF"))})
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


class ManifestError(Exception):
    """Manifests cannot be used; the text has a line for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Document:
    """One object and where it stands."""

    manifest: Manifest
    source: str
    line: int
    lines: Mapping[FieldPath, int] = field(default_factory=dict)

    def position(self, path: FieldPath) -> str:
        """File and line of a field, or of the part around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, self.line)}"

    @property
    def title(self) -> str:
        """How the object is called in messages."""
        metadata = self.manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.manifest.get('kind')} {name or 'without a name'}"


class _Loader(yaml.SafeLoader):
    """Tells a plain scalar from a quoted one and leaves its meaning to us."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}{'seq' if kind is yaml.SequenceNode else 'map'}"


class _NodeError(Exception):
    def __init__(self, node: yaml.Node, message: str) -> None:
        super().__init__(message)
        self.line = node.start_mark.line + 1
        self.message = message


class _Constructor:
    """Builds the value of one document and notes the line of each field."""

    def __init__(self) -> None:
        self.lines: dict[FieldPath, int] = {}
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self._count += 1
        if self._count > NODES_MAX:
            raise _NodeError(node, f"more than {NODES_MAX} values")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _NodeError(node, "an anchor that contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: FieldPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in parts:
                    if not isinstance(part, yaml.MappingNode):
                        raise _NodeError(part, "<< takes a mapping or a list of mappings")
                    for key, value in self.value(part, path).items():
                        merged.setdefault(key, value)
                continue
            key = _key(key_node)
            if key in result:
                raise _NodeError(key_node, f"key {key} is there already")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, (*path, key))
        return {**merged, **result}


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _NodeError(node, "a key must be a word, not a list or mapping")
    key = _scalar(node)
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    tag = node.tag
    if tag == _PLAIN:
        return plain(text, node)
    if tag == f"{_TAG}str":
        return text
    if tag in (f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"):
        value = plain(text, node)
        if isinstance(value, str):
            raise _NodeError(node, f"{text!r} is no {tag.removeprefix(_TAG)}")
        return value
    raise _NodeError(node, f"tag {tag} is not known")


def plain(text: str, node: yaml.Node | None = None) -> Any:
    """Value of a scalar without quotes."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text in _NULL:
        return None
    if text in _SPECIAL:
        raise _refusal(node, f"{text} is no JSON number: put it in quotes if it is a word")
    bare = text.replace("_", "") if text[0] in "+-0123456789" else text
    if _INTEGER.match(bare):
        sign = -1 if bare.startswith("-") else 1
        digits = bare.lstrip("+-").lower()
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        try:
            return sign * int(f"0o{digits[1:]}" if octal else digits, 0)
        except ValueError:
            raise _refusal(node, f"a number of {len(digits)} digits: put it in quotes if it is a word") from None
    if _FLOAT.match(bare):
        number = float(bare)
        if math.isfinite(number):
            return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return text


def _refusal(node: yaml.Node | None, message: str) -> Exception:
    return ValueError(message) if node is None else _NodeError(node, message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key} is there already")
        result[key] = value
    return result


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _json_float(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 1e21 else number


def _read_json(text: str, source: str) -> Iterator[Document]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_json_float)
    position = len(text) - len(text.lstrip())
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise ManifestError([f"{source}:{line}: {error}"]) from None
        except RecursionError:
            raise ManifestError([f"{source}:{line}: nested too deeply"]) from None
        yield Document(value, source, line)
        position += len(text[position:]) - len(text[position:].lstrip())


def _read_yaml(text: str, source: str) -> Iterator[Document]:
    try:
        for node in yaml.compose_all(text, _Loader):
            if node is None:
                continue
            constructor = _Constructor()
            value = constructor.value(node, ())
            if value is not None:
                yield Document(value, source, node.start_mark.line + 1, constructor.lines)
    except _NodeError as error:
        raise ManifestError([f"{source}:{error.line}: {error.message}"]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise ManifestError([f"{source}:{line}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ManifestError([f"{source}: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise ManifestError([f"{source}: nested too deeply"]) from None


def parse(text: str, source: str) -> list[Document]:
    """All objects of a text, lists taken apart; raises ManifestError."""
    if not text.lstrip().startswith("{"):
        found = list(_read_yaml(text, source))
    else:
        try:
            found = list(_read_json(text, source))
        except json.JSONDecodeError as error:
            # YAML may begin with a brace too.
            try:
                found = list(_read_yaml(text, source))
            except ManifestError:
                raise ManifestError([f"{source}:{error.lineno}: {error.msg}"]) from None
    for document in found:
        _require_characters(document)
    return [inner for document in found for inner in _apart(document)]


def _require_characters(document: Document) -> None:
    """Refuse halves of surrogate pairs, which an escape can write and UTF-8 cannot."""
    try:
        json.dumps(document.manifest, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ManifestError([f"{document.source}:{document.line}: {half} is half of a character: write the whole one"]) from None


def _apart(document: Document) -> Iterator[Document]:
    manifest = document.manifest
    if not isinstance(manifest, dict):
        raise ManifestError([f"{document.source}:{document.line}: an object has apiVersion, kind and metadata; this is none"])
    items = manifest.get("items")
    if manifest.get("kind") != "List" or not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        prefix: FieldPath = ("items", index)
        lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == prefix}
        yield from _apart(Document(item, document.source, lines.get((), document.line), lines))


def _text(path: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ManifestError([f"{path}: {error.strerror}"]) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError([f"{path}: is no UTF-8 text (byte {error.start})"]) from None


def _files(path: str) -> list[str]:
    folder = Path(path)
    if path == "-" or not folder.is_dir():
        return [path]
    found = sorted(str(file) for file in folder.iterdir() if file.suffix in (".yaml", ".yml", ".json"))
    if not found:
        raise ManifestError([f"{path}: no .yaml, .yml or .json file in this folder"])
    return found


def read(paths: Sequence[str], namespace: str = "default") -> list[Document]:
    """The objects of files, folders or `-` (standard input), in order, each with a namespace; raises ManifestError."""
    problems: list[str] = []
    documents: list[Document] = []
    for path in paths:
        try:
            for file in _files(path):
                documents += parse(_text(file), "standard input" if file == "-" else file)
        except ManifestError as error:
            problems += error.problems
    for document in documents:
        problems += _kind_problems(document)
        metadata = document.manifest.get("metadata")
        if isinstance(metadata, dict) and metadata.get("namespace") in (None, ""):
            metadata["namespace"] = namespace
    if problems:
        raise ManifestError(problems)
    if not documents:
        raise ManifestError([f"{', '.join(paths)}: no object in it"])
    return documents


def _kind_problems(document: Document) -> Iterator[str]:
    kind, version = document.manifest.get("kind"), document.manifest.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        missing = " and ".join(key for key in ("apiVersion", "kind") if not isinstance(document.manifest.get(key), str))
        yield f"{document.position(())}: {missing} is missing"
    elif kind not in KINDS:
        yield f"{document.position(('kind',))}: local mode takes {', '.join(KINDS)}; {kind} needs a cluster"
    elif version != KINDS[kind]:
        yield f"{document.position(('apiVersion',))}: {kind} is {KINDS[kind]}, not {version}"


def admit(documents: Sequence[Document], judges: Mapping[str, Admit]) -> list[Manifest]:
    """The objects with their defaults; raises ManifestError with every problem of every object."""
    problems: list[str] = []
    admitted: dict[Ref, Manifest] = {}
    result = []
    for document in documents:
        metadata = document.manifest.get("metadata")
        named = (
            isinstance(metadata, dict) and isinstance(metadata.get("name"), str) and isinstance(metadata.get("namespace"), str)
        )
        old = admitted.get(Ref.of(document.manifest)) if named else None
        try:
            manifest = judges[document.manifest["kind"]](document.manifest, old)
        except RefusedError as error:
            problems += [f"{document.position(problem.path)}: {document.title}: {problem}" for problem in error.problems]
            continue
        admitted[Ref.of(manifest)] = manifest
        result.append(manifest)
    if problems:
        raise ManifestError(problems)
    return result
