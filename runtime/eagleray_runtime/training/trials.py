"""What the trials of a search came to: kept beside the checkpoints, ranked, and told."""

from collections.abc import Sequence

from pydantic import Field, TypeAdapter

from eagleray_runtime.contract.blocks import Block
from eagleray_runtime.contract.reports import FailureReason, RatedTrial, SearchReport
from eagleray_runtime.storage import Store
from eagleray_runtime.training.halving import Rungs
from eagleray_runtime.training.space import Values, text

TRIALS = "trials.json"
MOST_TOLD = 5


class Ended(Block):
    """A trial that has ended: with its `value`, early (`stopped`), or with the `reason` and `message` of its failure."""

    number: int
    values: Values
    value: float | None = None
    stopped: bool = False
    reason: FailureReason | None = None
    message: str = ""
    rungs: Rungs = Field(default_factory=dict)


ENDED = TypeAdapter(list[Ended])


def kept(store: Store, drawn: Sequence[Values]) -> list[Ended]:
    """The trials that an earlier attempt has ended, in the order in which they did; those of other draws are not.

    Raises:
        StoreRefused: the store does not give the file.
    """
    if not store.exists(TRIALS):
        return []
    return [each for each in ENDED.validate_json(store.read(TRIALS)) if drawn[each.number - 1 : each.number] == [each.values]]


def keep(store: Store, ended: list[Ended]) -> None:
    """Keep them for another attempt.

    Raises:
        StoreRefused: the store does not take the file.
    """
    store.write(TRIALS, ENDED.dump_json(ended, by_alias=True))


def ranked(ended: Sequence[Ended], *, larger_is_better: bool) -> list[Ended]:
    """Those that came to a value, the best first; of equal ones the earlier drawn."""
    sign = -1 if larger_is_better else 1
    return sorted((each for each in ended if each.value is not None), key=lambda each: (sign * (each.value or 0.0), each.number))


def summary(ended: Sequence[Ended], trials: int, running: int, *, larger_is_better: bool) -> SearchReport:
    """How far a search of so many trials is."""
    best = ranked(ended, larger_is_better=larger_is_better)
    return SearchReport(
        trials=trials,
        running=running,
        failed=sum(each.reason is not None for each in ended),
        stopped=sum(each.stopped for each in ended),
        best=best[0].value if best else None,
        top=[
            RatedTrial(
                trial=each.number,
                value=each.value,
                values={field: text(value) for field, value in each.values.items()},
            )
            for each in best[:MOST_TOLD]
            if each.value is not None
        ],
    )
