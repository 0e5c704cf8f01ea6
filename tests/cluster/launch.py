"""Become a daemon that is already on record: `launch.py RECORD PROGRAM ARG...`.

Run as a script in the child. It writes its own process id and start time and only then turns into the program (same
process), so there is no moment at which the program runs and no record of it exists: whoever started it may be killed
at any point and the next command still finds it. It imports nothing of the package because it runs isolated (`-I`).
"""

import json
import os
import sys


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when it is gone or a zombie.

    The process id alone does not identify a process, as ids are used again; id, start time and boot do.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything, parentheses and blanks included.
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return int(fields[19])


def boot_id() -> str:
    """Return the identity of this boot: start times of an earlier one mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def write_record(path: str, command: list[str]) -> None:
    """Write the record of the calling process, whole or not at all."""
    pid = os.getpid()
    record = {"pid": pid, "start_time": start_time(pid), "boot_id": boot_id(), "command": command}
    temporary = f"{path}.{pid}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.replace(temporary, path)


def main(arguments: list[str]) -> None:
    """Record this process and become the program."""
    record, *command = arguments
    write_record(record, command)
    os.execvp(command[0], command)  # noqa: S606 - a shell would be another process between record and program


if __name__ == "__main__":
    main(sys.argv[1:])
