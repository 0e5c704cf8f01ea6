"""Numbers of pods."""

import pytest

from eagleray_operator.children.pods import total_memory


@pytest.mark.parametrize(
    ("quantities", "total"),
    [(["2Gi", "2Gi"], "4Gi"), (["2Gi", "512Mi"], "2560Mi"), (["1.5Gi"], "1536Mi"), (["1Gi", "1"], "1025Mi"), (["1G"], "954Mi")],
)
def test_memory_is_added_whatever_its_units(quantities, total):
    assert total_memory(*quantities) == total
