"""Judges the rules of blocks where there is no library for CEL: the small part of it that our rules are written in.

The apiserver has applied the rules to what a user wrote; here they are applied to what a search makes of it.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from eagleray_runtime.contract.blocks import Block

WORDS = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}
TOKEN = re.compile(r"'[^']*'|&&|\|\||!(?!=)|\btrue\b|\bfalse\b")


def broken(block: Block) -> Iterator[str]:
    """The message of each rule that a block, or one within it, does not keep."""
    values = block.model_dump(mode="json", by_alias=True, exclude_none=True)
    for rule in block.rules:
        if not holds(rule.expression, values):
            yield rule.message
    for name in type(block).model_fields:
        value = getattr(block, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Block):
                yield from broken(inner)


def holds(expression: str, values: Mapping[str, Any]) -> bool:
    """Whether a rule holds for the values of a block, by the names that users write."""
    return bool(_value(_parsed(expression), {"self": values}))


@cache
def _parsed(expression: str) -> ast.expr:
    """The expression in Python's grammar, which differs in a few words only."""
    return ast.parse(TOKEN.sub(lambda found: WORDS.get(found[0], found[0]), expression).strip(), mode="eval").body


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return known[name]
        case ast.Attribute(of, name):
            return _value(of, known)[name]
        case ast.List(elements):
            return [_value(element, known) for element in elements]
        case ast.BoolOp(ast.And(), parts):
            return all(_value(part, known) for part in parts)
        case ast.BoolOp(ast.Or(), parts):
            return any(_value(part, known) for part in parts)
        case ast.UnaryOp(ast.Not(), of):
            return not _value(of, known)
        case ast.BinOp(left, ast.Mod(), right):
            return _value(left, known) % _value(right, known)
        case ast.Compare(left, [how], [right]):
            return _compared(how, _value(left, known), _value(right, known))
        case ast.Call(ast.Name("has"), [ast.Attribute(of, name)]):
            return name in _value(of, known)
        case ast.Call(ast.Attribute(of, "all" | "exists" as how), [ast.Name(variable), condition]):
            found = [_value(condition, {**known, variable: element}) for element in _value(of, known)]
            return all(found) if how == "all" else any(found)
    raise ValueError(f"a rule may not say {ast.unparse(node)}")


def _compared(how: ast.cmpop, left: Any, right: Any) -> bool:
    match how:
        case ast.Eq():
            return bool(left == right)
        case ast.NotEq():
            return bool(left != right)
        case ast.Lt():
            return bool(left < right)
        case ast.LtE():
            return bool(left <= right)
        case ast.Gt():
            return bool(left > right)
        case ast.GtE():
            return bool(left >= right)
        case ast.In():
            return left in right
    raise ValueError(f"a rule may not compare by {type(how).__name__}")
