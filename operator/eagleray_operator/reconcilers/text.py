"""Other people's words, made fit for a condition."""

import re

QUOTE_MAX = 1000
"""Longest quotation of a log, an event or a traceback, in characters."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def quote(words: str, limit: int = QUOTE_MAX) -> str:
    """The end of the words, which holds the cause, without terminal colours."""
    plain = _ANSI.sub("", words).strip()
    return plain if len(plain) <= limit else "... " + plain[-(limit - 4) :]


def last_line(words: str) -> str:
    """The last line that says something: where a traceback names its error."""
    lines = [line.strip() for line in _ANSI.sub("", words).splitlines() if line.strip()]
    return lines[-1] if lines else ""
