"""Holds the tests to the folders in which their tiers look for them."""

from pathlib import Path

import pytest

from tests.tiers import TIERS

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for tier in TIERS:
            if item.get_closest_marker(tier.name) and not any(item.path.is_relative_to(ROOT / folder) for folder in tier.folders):
                raise pytest.UsageError(f"{item.nodeid} is of tier {tier.name}, which looks for its tests in {tier.folders}")
