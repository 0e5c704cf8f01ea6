"""What an image may do is decided by how it is built."""

import re
from pathlib import Path

import pytest

from tests.cluster.project_images import IMAGES

REPOSITORY = Path(__file__).parents[2]


def stages(dockerfile: Path) -> dict[str, tuple[str, list[str]]]:
    """Base and instructions of each stage by its name."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in dockerfile.read_text().replace("\\\n", " ").splitlines():
        if match := re.match(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = (match[1], [])
        elif line and not line.startswith("#"):
            found[list(found)[-1]][1].append(line)
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_user_by_number_who_is_not_root(name: str) -> None:
    """By number: the kubelet cannot tell from a name that a user is not root, and refuses the pod."""
    image = IMAGES[name]
    _, instructions = stages(REPOSITORY / image.dockerfile)[image.target]
    (user,) = [line for line in instructions if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user)
    after = instructions[instructions.index(user) + 1 :]
    assert not any(line.startswith("RUN") for line in after)


@pytest.mark.parametrize("name", IMAGES)
def test_every_package_of_an_image_is_locked_by_hash(name: str) -> None:
    every = stages(REPOSITORY / IMAGES[name].dockerfile)
    installs = [line for _, lines in every.values() for line in lines if "pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line, line
