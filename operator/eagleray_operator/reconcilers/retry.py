"""Whether and when a failed job is tried again."""

from datetime import datetime, timedelta

from eagleray_operator.api.reasons import Reason
from eagleray_operator.reconcilers.attempts import FINAL

FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 300.0


def may_help(reason: Reason) -> bool:
    """Whether another attempt can end otherwise."""
    return reason not in FINAL


def next_time(ended: datetime, failures: int) -> datetime:
    """When the next attempt starts: the delay doubles with each failure, from 5 s up to 5 minutes."""
    delay = min(FIRST_DELAY_SECONDS * 2 ** (failures - 1), LONGEST_DELAY_SECONDS)
    return ended + timedelta(seconds=delay)
