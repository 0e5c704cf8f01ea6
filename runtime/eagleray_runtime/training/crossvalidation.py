"""How good models of this kind are: the same training on other parts of the rows, each time measured on those left out."""

import json
import statistics
from collections.abc import Callable, Iterable

from eagleray_runtime.contract.config import Location
from eagleray_runtime.contract.reports import Metric
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.storage import Store
from eagleray_runtime.training.engines import below

FOLDS = "folds.json"

Scores = dict[str, float]
"""Metrics of one fold by name."""


def cross_validate(
    folds: Iterable[Dataset], score: Callable[[int, Dataset, Location], Scores], checkpoints: Location
) -> list[Metric]:
    """Mean and deviation over the folds of each metric that all of them have.

    `score` trains on a fold (numbered from 0), its checkpoints in the place that it is given, and measures what comes of it.
    What is measured is kept beside that place, which is emptied then, so that another attempt goes on with the fold that was
    interrupted.

    Raises:
        StoreRefused: the store does not give or take a file.
    """
    kept = Store(checkpoints)
    done: list[Scores] = json.loads(kept.read(FOLDS)) if kept.exists(FOLDS) else []
    for number, dataset in enumerate(folds):
        if number >= len(done):
            place = below(checkpoints, f"fold-{number}")
            done.append(score(number, dataset, place))
            kept.write(FOLDS, json.dumps(done, allow_nan=False).encode())
            Store(place).remove_folder()
    return [
        Metric(
            name=name,
            part="CrossValidation",
            value=statistics.mean(scores[name] for scores in done),
            deviation=statistics.stdev(scores[name] for scores in done),
        )
        for name in done[0]
        if all(name in scores for scores in done)
    ]
