"""What a lock file names, installed once into the cache, for all checkouts.

`python -m tests.support.locks NAME` prints its folder.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.layout import cache_folder

REPOSITORY = Path(__file__).parents[2]


def _lock(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.txt"


def is_installed(name: str) -> bool:
    return (_folder(name) / "complete").exists()


def installed(name: str) -> Path:
    """The folder for PYTHONPATH with what `requirements/NAME.txt` names, for this version of Python.

    It stands beside .venv, which holds nothing of it.
    """
    folder = _folder(name)
    if not is_installed(name):
        shutil.rmtree(folder.parent, ignore_errors=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--compile-bytecode"]
        command = [*install, "--target", str(folder), "--no-deps", "--require-hashes", "-r", str(_lock(name))]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        (folder / "complete").touch()
    return folder


def _folder(name: str) -> Path:
    key = hashlib.sha256(_lock(name).read_bytes() + sys.version.encode()).hexdigest()[:12]
    # By this name tools know that it is not a project's own code: hypothesis would read each module for constants.
    return cache_folder() / f"{name}-{key}" / "site-packages"


if __name__ == "__main__":
    print(installed(sys.argv[1]))
