"""Other people's words, made fit for a condition."""

import re

QUOTE_MAX = 1000
"""Longest quotation of a log, an event or a traceback, in bytes of UTF-8."""

_CUT = " ... "
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def quote(words: str, limit: int = QUOTE_MAX) -> str:
    """The words without terminal colours; of longer ones the beginning, which names who speaks, and twice as much of the end.

    A scheduler says at the beginning what it lacks, a traceback at its end.
    """
    plain = _ANSI.sub("", words).strip()
    encoded = plain.encode()
    if len(encoded) <= limit:
        return plain
    room = limit - len(_CUT)
    beginning, end = encoded[: room // 3], encoded[-(room - room // 3) :]
    return beginning.decode(errors="ignore") + _CUT + end.decode(errors="ignore")


def last_line(words: str) -> str:
    """The last line that says something: where a traceback names its error."""
    lines = [line.strip() for line in _ANSI.sub("", words).splitlines() if line.strip()]
    return lines[-1] if lines else ""
