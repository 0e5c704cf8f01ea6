"""On what a job has spent its time: the figures add up to the time since it was created, whatever happens."""

from datetime import datetime

import pytest

from eagleray_operator.reconcilers.trainingjob import reconcile
from eagleray_runtime.contract.reports import FailureReason, FailureReport, Spent, Stage
from tests.support.makers import KEY, NOW, SETTINGS, identity, job, later, live, observed, progress, result

FIGURES = ("queued", "startUp", "training", "checkpoint", "recovery", "lost", "suspended")
BEFORE = 60
"""Seconds that the job was there before it was first seen: see the makers."""


def trains(seconds, attempt=1, stage=Stage.TRAINING, **spent):
    """A report of an attempt that began to train so many seconds ago."""
    told = Spent(seconds=seconds, **spent)
    return progress(attempt=attempt, stage=stage).model_copy(update={"spent": told})


def ends(seconds, attempt=1):
    done = result(attempt)
    return done.model_copy(update={"progress": done.progress.model_copy(update={"spent": Spent(seconds=seconds)})})


def fails(attempt=1):
    return FailureReport(resource=identity(), attempt=attempt, reason=FailureReason.DIVERGED, message="the loss is not a number")


STARTING, RUNNING, SUSPENDED = "Initializing", "Running", "Suspended"
FAILED = "Failed"
WHOLE = [(0, STARTING, []), (20, RUNNING, []), (50, RUNNING, [trains(10)])]
STORIES = {
    "waits for its turn": ([(0, STARTING, [])], {"queued": 60}),
    # Of a start nobody has heard yet: time alone writes nothing.
    "starts": ([(0, STARTING, []), (20, RUNNING, [])], {"queued": 60}),
    # The report came ten seconds after training began.
    "trains": (WHOLE, {"queued": 60, "startUp": 40, "training": 10}),
    "trains on": ([*WHOLE, (80, RUNNING, [trains(40, unsaved=9)])], {"queued": 60, "startUp": 40, "training": 40}),
    "is done": ([*WHOLE, (90, RUNNING, [ends(50)])], {"queued": 60, "startUp": 40, "training": 50}),
    "is done before it told anything": (
        [(0, STARTING, []), (20, RUNNING, []), (33, RUNNING, [ends(3)])],
        {"queued": 60, "startUp": 30, "training": 3},
    ),
    "waits for checkpoints": (
        [*WHOLE, (80, RUNNING, [trains(40, checkpoint=6)]), (90, RUNNING, [trains(50, checkpoint=7.5)])],
        {"queued": 60, "startUp": 40, "training": 42.5, "checkpoint": 7.5},
    ),
    "loses workers and gets others": (
        [*WHOLE, (90, RUNNING, [trains(50, lost=12, recovery=20)])],
        {"queued": 60, "startUp": 40, "training": 18, "lost": 12, "recovery": 20},
    ),
    # Of the attempt's last 30 seconds 9 were not saved, and for 25 more nobody had heard of it; ten later the next one begins.
    "fails and recovers": (
        [
            *WHOLE,
            (80, RUNNING, [trains(40, unsaved=9)]),
            (105, FAILED, []),
            (115, STARTING, []),
            (150, RUNNING, [trains(5, attempt=2)]),
        ],
        {"queued": 60, "startUp": 40, "training": 36, "lost": 34, "recovery": 40},
    ),
    "fails for good": (
        [*WHOLE, (80, RUNNING, [trains(40, unsaved=9)]), (84, RUNNING, [fails()])],
        {"queued": 60, "startUp": 40, "training": 31, "lost": 13},
    ),
    "is suspended and goes on": (
        [
            *WHOLE,
            (80, RUNNING, [trains(40, unsaved=9, checkpoint=2)]),
            (100, SUSPENDED, []),
            (400, STARTING, []),
            (440, RUNNING, [trains(10, checkpoint=1)]),
        ],
        {"queued": 60, "startUp": 70, "training": 58, "checkpoint": 3, "lost": 9, "suspended": 300},
    ),
}


def told(story):
    """The timing after each moment of a story; the seconds are those since the job was first seen."""
    status, children = {}, ()
    for seconds, deployment, reports in story:
        suspend = deployment == SUSPENDED

        def plan(known, seen, reports=(), suspend=suspend, seconds=seconds):
            resource = job(status=known, suspend=suspend)
            return reconcile(resource, observed(*seen, reports=tuple(reports)), SETTINGS, later(seconds), KEY)

        for child in plan(status, children).apply:
            if child["kind"] == "RayJob":
                state = {"rayClusterName": "c", "jobDeploymentStatus": deployment, "message": "it ended"}
                children = [live(child, status=state)]
        status = dict(plan(status, children, reports).status)
        yield seconds, status["timing"]
        again = plan(status, children).status
        # Of a job that has ended nothing is written at all.
        assert again is None or dict(again)["timing"] == status["timing"], "a second look changes the figures"


@pytest.mark.parametrize(("story", "expected"), STORIES.values(), ids=STORIES)
def test_every_second_is_told_by_what_it_went_to(story, expected):
    timing = {}
    for seconds, timing in told(story):
        figures = [timing[f"{figure}Seconds"] for figure in FIGURES]
        until = datetime.fromisoformat(timing["untilTime"])
        assert until <= later(seconds)
        assert sum(figures) == pytest.approx((until - NOW).total_seconds() + BEFORE, abs=0.01), timing
        assert min(figures) >= 0
    assert {figure: timing[f"{figure}Seconds"] for figure in FIGURES if timing[f"{figure}Seconds"]} == pytest.approx(expected)


def test_time_alone_writes_no_status():
    *_, (_, before) = told(WHOLE)
    *_, (_, after) = told([*WHOLE, (51, RUNNING, [])])
    assert after == before


def test_the_same_report_twice_counts_once():
    *_, (_, once) = told([*WHOLE, (80, RUNNING, [trains(40, checkpoint=6)])])
    *_, (_, twice) = told([*WHOLE, (80, RUNNING, [trains(40, checkpoint=6)]), (81, RUNNING, [trains(40, checkpoint=6)])])
    assert twice == once
