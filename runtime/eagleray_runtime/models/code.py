"""Code of the user's own: found by `module:function`, and quoted where it fails.

Its modules live in memory, from the texts that a job read or a bundle holds: nothing is written, and nothing else is imported by
their names.
"""

import hashlib
import importlib
import importlib.util
import json
import linecache
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from eagleray_runtime.errors import UserCodeFailed

QUOTED_FRAMES = 3
"""Calls of a traceback that are quoted, the innermost ones."""


def digest(sources: Mapping[str, str]) -> str:
    """The sha256 of files by name, `sha256:` and hexadecimal."""
    return f"sha256:{hashlib.sha256(json.dumps(dict(sources), sort_keys=True).encode()).hexdigest()}"


def function(entrypoint: str, sources: Mapping[str, str]) -> Callable[..., Any]:
    """What `module:function` names among these files (texts by file name), or, without any, in the image.

    Raises:
        UserCodeFailed: it is not there, or importing it ends with an error.
    """
    module_name, _, name = entrypoint.partition(":")
    if sources:
        if f"{module_name}.py" not in sources:
            raise UserCodeFailed(
                f"model.custom.entrypoint {entrypoint}: the code has no file {module_name}.py; it has "
                f"{', '.join(sorted(sources))}: add it, or name one of these"
            )
        _finder.hold(sources)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise failed(f"model.custom.entrypoint {entrypoint} cannot be imported", error, sources) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UserCodeFailed(f"model.custom.entrypoint {entrypoint}: {module_name} has no function {name}: define it")
    callable_: Callable[..., Any] = found
    return callable_


def failed(what: str, error: Exception, sources: Mapping[str, str]) -> UserCodeFailed:
    """The failure of a user's code in its own words: the innermost lines of its traceback from the first of its files on."""
    told = traceback.TracebackException.from_exception(error)
    own = [index for index, frame in enumerate(told.stack) if frame.filename in sources]
    frames = [frame for frame in told.stack[own[0] if own else 0 :] if not frame.filename.startswith("<frozen")]
    lines = [*traceback.format_list(frames[-QUOTED_FRAMES:]), *told.format_exception_only()]
    return UserCodeFailed(f"{what}: {''.join(lines).strip()}: correct the code, in a new job")


class _Finder(MetaPathFinder, InspectLoader):
    """Finds modules among the texts that it holds, last of all that finds modules."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}

    def hold(self, sources: Mapping[str, str]) -> None:
        """Find these from now on, in the place of those before."""
        modules = {name.removesuffix(".py"): text for name, text in sources.items()}
        if modules == self._sources:
            return
        for name in self._sources:
            sys.modules.pop(name, None)
            linecache.cache.pop(f"{name}.py", None)
        self._sources = {}
        for name in modules:
            if importlib.util.find_spec(name) is not None:
                raise UserCodeFailed(f"{name}.py has the name of a module that the image holds already: rename it")
        self._sources = modules
        if self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self._sources:
            return None
        return ModuleSpec(fullname, self, origin=f"{fullname}.py")

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        # Named so that a traceback quotes its lines.
        return self.source_to_code(self._sources[fullname], f"{fullname}.py")


_finder = _Finder()
