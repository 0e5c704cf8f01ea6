"""Windows of rows in the order of time: how they are cut, split, prepared and asked for; without torch."""

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.splitting import Parts
from eagleray_runtime.data.windows import Series, cut
from eagleray_runtime.errors import DataInvalid, ModelInvalid
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving.inputs import Windows
from eagleray_runtime.serving.tensors import BadTensorError, Tensor
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

STEPS, HORIZON = 3, 2


def sequence(**fields):
    return {"timeColumn": "t", "windowSteps": STEPS, "horizonSteps": HORIZON} | fields


@pytest.fixture
def rows(job):
    """Configuration of a job that learns from CSV lines in windows."""

    def make(lines, sequence=None, **data):
        data = {"sequence": sequence or {"timeColumn": "t", "windowSteps": STEPS, "horizonSteps": HORIZON}} | data
        return job(lines, family="RecurrentNetwork", engine="Torch", data=data)

    return make


def line(count=60, order=None, shops=("a",)):
    """y is t, or t + 1000 in the second shop, so that a prepared value says which row it is of."""
    made = [f"{t},{t + 1000 * number},{shop}" for t in range(count) for number, shop in enumerate(shops)]
    shuffled = [made[row] for row in order] if order is not None else made
    return ["t,y,shop", *shuffled]


def unscaled(dataset, part):
    """The values of y in a part's windows [windows, steps], and what is to be predicted [windows], in the target's own unit."""
    [column] = dataset.preparation.columns
    assert column.name == "y"
    target = dataset.preparation.target
    return part.x[..., 0] * column.scale + column.offset, part.y * target.scale + target.offset


def test_a_window_predicts_the_target_so_many_rows_after_its_last(rows):
    dataset = load(rows(line(), features=["y"]))
    for part in (dataset.training, dataset.validation, dataset.test):
        assert part.x.dtype == np.float32
        windows, targets = unscaled(dataset, part)
        assert windows == pytest.approx(windows[:, :1] + np.arange(STEPS), abs=1e-3)
        assert targets == pytest.approx(windows[:, -1] + HORIZON, abs=1e-3)


def test_no_window_holds_rows_of_two_parts_and_the_last_rows_test(rows):
    config = rows(line(100), features=["y"])
    dataset = load(config)
    spans = []
    for part in (dataset.training, dataset.validation, dataset.test):
        windows, targets = unscaled(dataset, part)
        spans.append((round(windows.min()), round(targets.max())))
    assert spans == [(0, 79), (80, 89), (90, 99)]
    assert [choice.value for choice in dataset.chosen if choice.field == "data.split.method"] == ["Chronological"]
    assert dataset.report.notes == ["windows: 76 to train, 6 to validate, 6 to test"]
    assert (dataset.report.training, dataset.report.dropped) == (80, 0)


def test_preparation_is_fitted_on_the_training_rows_alone(rows):
    dataset = load(rows(line(100), features=["y"]))
    [column] = dataset.preparation.columns
    assert column.offset == pytest.approx(np.arange(80).mean())
    assert dataset.preparation.target.offset == pytest.approx(np.arange(80).mean())


def test_rows_may_be_stored_in_any_order(rows):
    straight = load(rows(line(), features=["y"]))
    shuffled = load(rows(line(order=np.random.default_rng(0).permutation(60)), features=["y"]))
    for name in ("training", "validation", "test"):
        assert np.array_equal(getattr(straight, name).x, getattr(shuffled, name).x)
        assert np.array_equal(getattr(straight, name).y, getattr(shuffled, name).y)


def test_a_window_is_of_one_series(rows):
    dataset = load(rows(line(60, shops=("a", "b")), sequence(groupColumn="shop"), features=["y"]))
    windows, targets = unscaled(dataset, dataset.training)
    assert windows == pytest.approx(windows[:, :1] + np.arange(STEPS), abs=1e-2)
    assert targets == pytest.approx(windows[:, -1] + HORIZON, abs=1e-2)
    assert {bool(first >= 999) for first in windows[:, 0]} == {False, True}
    assert len(windows) == 2 * (48 - STEPS - HORIZON + 1)


def test_groups_may_be_the_parts(rows):
    dataset = load(
        rows(line(20, shops=tuple("abcde")), sequence(groupColumn="shop"), split={"method": "Group", "groupColumn": "shop"})
    )
    assert (dataset.report.training, dataset.report.validation, dataset.report.test) == (60, 20, 20)
    assert dataset.test.rows == 20 - STEPS - HORIZON + 1


def test_the_past_of_the_target_is_learned_from_unless_features_leave_it_out(rows):
    lines = ["t,y,z", *(f"{t},{t},{t % 3}" for t in range(60))]
    assert [column.name for column in load(rows(lines)).preparation.columns] == ["y", "z"]
    assert [column.name for column in load(rows(lines, features=["z"])).preparation.columns] == ["z"]


def test_words_are_categories_of_each_row(rows):
    lines = ["t,y,day", *(f"{t},{t},{'sunday' if t % 7 else 'monday'}" for t in range(60))]
    dataset = load(rows(lines))
    assert dataset.inputs == (STEPS, 3)
    assert dataset.example["day"] == ["monday", "sunday", "sunday"]


TIMES = {
    "dates": [f"2026-{month:02}-{day:02}" for month in (9, 10, 11) for day in range(1, 21)],
    "dates with slashes": [f"2026/{month:02}/{day:02}" for month in (9, 10, 11) for day in range(1, 21)],
    "times": [f"2026-01-{day:02}T{hour:02}:00:00" for day in range(9, 15) for hour in range(2, 22, 2)],
    "times with a zone": [f"2026-01-{day:02}T{hour:02}:00:00Z" for day in range(9, 15) for hour in range(2, 22, 2)],
    "fractions": [str(t / 8 - 2) for t in range(60)],
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_time_is_dates_times_or_numbers(rows, times):
    order = np.random.default_rng(1).permutation(60)
    lines = ["t,y", *(f"{times[row]},{row}" for row in order)]
    windows, _ = unscaled(dataset := load(rows(lines, features=["y"])), dataset.training)
    assert windows == pytest.approx(windows[:, :1] + np.arange(STEPS), abs=1e-3)


REFUSED = {
    "no such time": (line(), sequence(timeColumn="time"), "data.sequence.timeColumn: the data has no column time"),
    "no such series": (line(), sequence(groupColumn="store"), "data.sequence.groupColumn: the data has no column store"),
    "words for times": (["t,y", *(f"day {t},{t}" for t in range(60))], sequence(), "holds text that is no time: .*day "),
    "a row without time": (["t,y", *(f"{t or ''},{t}" for t in range(60))], sequence(), r"no value in row 1 \(1 such rows\)"),
    "two rows at a time": (line(shops=("a", "b")), sequence(), "row 1 and row 2 have the same t .60 such pairs.*groupColumn"),
    "too few rows": (
        line(40),
        sequence(windowSteps=4),
        "the validation part has 4 rows, and nowhere 6 of one series that follow each other: a window of 4 and the row to "
        "predict 2 after it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_order_is_refused_with_what_to_do(rows, case):
    lines, wanted, words = REFUSED[case]
    with pytest.raises(DataInvalid, match=words):
        load(rows(lines, wanted, features=["y"]))


def test_windows_are_not_cut_across_a_gap_that_another_part_leaves():
    # Rows 0..9 of one series, of which 4 and 5 are of the test part.
    series = Series(np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.int64), np.arange(10))
    parts = Parts(np.array([0, 1, 2, 3, 6, 7, 8, 9]), np.empty(0, dtype=np.int64), np.array([4, 5]))
    wanted = blocks.Sequence.model_validate({"timeColumn": "t", "windowSteps": 1, "horizonSteps": 1})
    training, validation, test = cut(series, parts, wanted)
    pairs = [(int(row), int(target)) for [row], target in zip(training.rows, training.targets, strict=True)]
    assert pairs == [(0, 1), (1, 2), (2, 3), (6, 7), (7, 8), (8, 9)]
    assert len(validation.targets) == 0
    assert test.rows.tolist() == [[4]]


def test_the_numpy_engine_says_that_it_has_no_recurrence(rows):
    config = rows(line()).model_copy(update={"engine": blocks.Engine.NUMPY})
    with pytest.raises(ModelInvalid, match="kind Recurrent is computed by torch alone"):
        driver.run(config, Progress(config, Reporter(None)))


def test_a_request_holds_windows_in_one_tensor_or_one_for_each_column(rows):
    preparation = load(rows(["t,y,z", *(f"{t},{t},{t % 3}" for t in range(60))])).preparation
    asked = Windows(preparation, STEPS)
    values = np.arange(12.0).reshape(2, STEPS, 2)
    found = asked.prepared([Tensor("features", values)])
    scale, offset = ([getattr(column, name) for column in preparation.columns] for name in ("scale", "offset"))
    assert found.dtype == np.float32
    assert found == pytest.approx((values - offset) / scale, rel=1e-6)
    columns = [Tensor("z", values[..., 1]), Tensor("y", values[..., 0])]
    assert asked.prepared(columns) == pytest.approx(found)


@pytest.mark.parametrize("shape", [(2, 2), (2, STEPS + 1, 2), (2, STEPS, 3), (STEPS * 2,)])
def test_a_request_of_another_shape_is_told_what_a_window_is(rows, shape):
    preparation = load(rows(["t,y,z", *(f"{t},{t},{t % 3}" for t in range(60))])).preparation
    with pytest.raises(BadTensorError, match=r"expected \[-1, 3, 2\], windows of 3 rows"):
        Windows(preparation, STEPS).prepared([Tensor("features", np.zeros(shape))])


def test_a_class_that_comes_up_too_late_is_told_without_advice_that_a_sequence_cannot_follow(rows):
    lines = ["t,y", *(f"{t},{'late' if t > 55 else 'odd' if t % 2 else 'even'}" for t in range(60))]
    with pytest.raises(DataInvalid, match="class late of target column y is not in the training part: give rows of it that were"):
        load(rows(lines))
