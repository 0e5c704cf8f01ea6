"""Running other programs to their end, with their own words in the error when they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from .errors import ClusterError


def run(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    log: Path | None = None,
    seconds: float | None = None,
    lock: int | None = None,
) -> str:
    """Run a program and return what it printed; with `log`, all its output goes to that file instead.

    `lock` is the descriptor of a lock that the program must go on holding even if this process is killed.
    """
    sink: IO[bytes] | int = subprocess.PIPE
    opened = None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        opened = sink = log.open("ab")
    try:
        result = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=None if environment is None else dict(environment),
            input=None if text is None else text.encode(),
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=sink,
            stderr=subprocess.STDOUT if log else subprocess.PIPE,
            timeout=seconds,
            pass_fds=() if lock is None else (lock,),
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]}: no such program") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{_short(command)}: no end after {seconds:.0f} s") from error
    finally:
        if opened is not None:
            opened.close()
    if result.returncode != 0:
        words = _tail(log) if log else (result.stderr or b"").decode(errors="replace").strip()[-2000:]
        raise ClusterError(f"{_short(command)} ended with {result.returncode}: {words}")
    return "" if log else (result.stdout or b"").decode(errors="replace")


def succeeds(command: Sequence[str | Path], *, seconds: float = 30) -> bool:
    """Tell whether a program ends well; one that is missing or hangs does not."""
    try:
        run(command, seconds=seconds)
    except ClusterError:
        return False
    return True


def _short(command: Sequence[str | Path]) -> str:
    line = " ".join(str(part) for part in command)
    return line if len(line) < 200 else line[:200] + " ..."


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"see {log}: " + " | ".join(lines[-5:])[-1500:]
