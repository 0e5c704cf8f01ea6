"""The corpus of good and bad manifests gets from a real apiserver the verdict that local mode gives."""

from pathlib import Path

import pytest

from tests.cluster import ClusterError
from tests.integration.conftest import Apiserver

CORPUS = Path(__file__).parents[1] / "contract" / "manifests"
GOOD = sorted((CORPUS / "good").glob("*.yaml"))
BAD = sorted((CORPUS / "bad").glob("*.yaml"))


def verdict(apiserver: Apiserver, file: Path) -> str | None:
    """What `kubectl apply` says against the file; None if nothing. Nothing is stored."""
    try:
        apiserver.kubectl("apply", "-n", "default", "--dry-run=server", "--validate=strict", "-f", str(file))
    except ClusterError as error:
        return str(error)
    return None


def test_there_is_a_corpus():
    assert len(GOOD) >= 5
    assert len(BAD) >= 30


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_good_manifest_is_accepted(apiserver: Apiserver, file: Path):
    assert verdict(apiserver, file) is None


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_manifest_is_refused(apiserver: Apiserver, file: Path):
    assert verdict(apiserver, file) is not None
