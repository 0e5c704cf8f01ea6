"""Text that people wrote, with a label that is not in doubt: paragraphs of the docstrings of four libraries.

The libraries (numpy, scipy, pandas and scikit-learn) are under the BSD licence; their versions are locked, so that the paragraphs
are the same everywhere.
"""

import ast
import importlib.util
import json
import random
from pathlib import Path

LIBRARIES = ("numpy", "scipy", "pandas", "sklearn")
CODE = frozenset("|=`[{<_")
SHORTEST, LONGEST = 80, 300
"""Characters of a paragraph."""


def paragraphs(package: str) -> list[str]:
    """Paragraphs of prose in the docstrings of a package, each once, in the order of its files."""
    found: dict[str, None] = {}
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        if "test" in str(path.relative_to(root)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            for paragraph in (words or "").split("\n\n"):
                text = " ".join(paragraph.split())
                if SHORTEST <= len(text) <= LONGEST and ">>>" not in text and not CODE & set(text):
                    found[text] = None
    return list(found)


def documents(each: int, after: int = 0) -> list[dict[str, str]]:
    """So many paragraphs of each library at random as `text` and `library`; of the same order those after the first so many."""
    rows = []
    for library in LIBRARIES:
        found = paragraphs(library)
        random.Random(0).shuffle(found)  # noqa: S311 - no secret
        rows += [{"text": text, "library": library} for text in found[after : after + each]]
    return rows


def as_lines(rows: list[dict[str, str]]) -> str:
    """Rows as JSON lines."""
    return "\n".join(map(json.dumps, rows)) + "\n"
