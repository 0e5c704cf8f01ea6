"""Dealing rows to training, validation and test part."""

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Split
from eagleray_runtime.contract.config import Location
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.splitting import split_rows
from eagleray_runtime.data.table import Column, Kind
from eagleray_runtime.errors import DataInvalid, StoreRefused


def test_the_same_seed_deals_the_same_rows_and_another_seed_others():
    first, again, other = (split_rows(100, Split(seed=seed), None) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.test, other.test)
    assert sorted(np.concatenate(first)) == list(range(100))
    assert [len(part) for part in first] == [80, 10, 10]


def test_a_stratified_split_keeps_the_classes_proportions():
    classes = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10, dtype=object)
    parts = split_rows(100, Split(), classes)
    for part in (parts.validation, parts.test):
        assert [int((classes[part] == name).sum()) for name in "abc"] == [6, 3, 1]


def test_a_rare_class_always_has_a_row_to_train_on():
    classes = np.array(["a"] * 30 + ["b"], dtype=object)
    parts = split_rows(31, Split(validation_percent=40, test_percent=40), classes)
    assert "b" in classes[parts.training]


def test_too_few_rows_to_split_are_refused():
    with pytest.raises(DataInvalid, match="2 rows leave none to train on"):
        split_rows(2, Split(), None)


def test_parts_of_zero_percent_are_empty():
    parts = split_rows(5, Split(validation_percent=0, test_percent=0), None)
    assert [len(part) for part in parts] == [5, 0, 0]


# --- in the order in which they are stored


@pytest.mark.parametrize(
    ("percents", "sizes"), [((10, 10), (16, 2, 2)), ((0, 25), (15, 0, 5)), ((25, 0), (15, 5, 0)), ((0, 0), (20, 0, 0))]
)
def test_chronological_parts_follow_each_other(percents, sizes):
    split = Split(method="Chronological", validation_percent=percents[0], test_percent=percents[1], seed=3)
    parts = split_rows(20, split, None)
    assert tuple(len(part) for part in parts) == sizes
    assert np.concatenate(parts).tolist() == list(range(20))


def test_dropped_rows_leave_the_others_in_their_order(job):
    rows = ["x,y", *(f"{v},{v}" for v in range(10)), ",99", *(f"{v},{v}" for v in range(10, 20))]
    preparation = {"missingNumeric": "DropRow", "scaling": "None"}
    dataset = load(job(rows, data={"split": {"method": "Chronological"}, "preparation": preparation}))
    taken = [part.x[:, 0].tolist() for part in (dataset.training, dataset.validation, dataset.test)]
    assert taken == [list(range(16)), [16, 17], [18, 19]]


# --- by groups


def groups_of(values):
    return Column(Kind.TEXT, np.array(values, dtype=object))


def group_split(**fields):
    return Split(method="Group", group_column="g", **fields)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_in_two_parts_and_the_shares_are_met_about_as_scikit_learn_meets_them(seed):
    random = np.random.default_rng(seed)
    values = [f"shop {number}" for number in random.integers(0, 60, 1000)]
    parts = split_rows(1000, group_split(validation_percent=10, test_percent=20, seed=seed), None, groups_of(values))
    assert sorted(np.concatenate(parts)) == list(range(1000))
    of_part = [{values[row] for row in part} for part in parts]
    assert sum(len(names) for names in of_part) == len(set.union(*of_part))
    largest = max(values.count(name) for name in set(values))
    ((_, theirs),) = GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(values, groups=values)
    assert abs(len(parts.validation) - 100) <= largest / 2
    assert abs(len(parts.test) - 200) <= max(largest / 2, abs(len(theirs) - 200))


def test_the_seed_decides_which_groups_are_held_out():
    values = groups_of([f"{number // 4}" for number in range(200)])
    first, again, other = (split_rows(200, group_split(seed=seed), None, values) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize(
    ("values", "sizes"),
    [(["a"] * 98 + ["b", "c"], (98, 1, 1)), (["a"] * 4 + ["b"] * 3 + ["c"] * 3, (4, 3, 3))],
    ids=["one that is nearly all", "few"],
)
def test_large_groups_are_trained_on(values, sizes):
    parts = split_rows(len(values), group_split(), None, groups_of(values))
    assert tuple(len(part) for part in parts) == sizes


def test_too_few_groups_are_refused():
    with pytest.raises(DataInvalid, match="2 groups, too few for 3 parts"):
        split_rows(10, group_split(), None, groups_of(["a", "b"] * 5))
    assert len(split_rows(10, group_split(validation_percent=0), None, groups_of(["a", "b"] * 5)).test) == 5


SHOPS = ["shop,x,y", *(f"{10**18 + v // 4},{v},{v}" for v in range(80))]


def test_groups_are_learned_from_only_if_they_are_named(job):
    # Identifiers beyond 2^53, which are no numbers to compute with, are fine as groups.
    data = {"split": {"method": "Group", "groupColumn": "shop"}}
    dataset = load(job(SHOPS, data=data))
    assert dataset.preparation.outputs == ["x"]
    named = [line.replace("1000000000000000", "shop") for line in SHOPS]
    preparation = {"encoding": "Ordinal"}
    dataset = load(job(named, data=data | {"features": ["shop", "x"], "preparation": preparation}))
    assert dataset.preparation.outputs == ["x", "shop"]


def test_rows_that_are_dropped_are_no_groups_either(job):
    rows = ["g,x,y", *(f"{'abc'[v % 3]},{v},{v}" for v in range(30)), "d,,1"]
    data = {"split": {"method": "Group", "groupColumn": "g"}, "preparation": {"missingNumeric": "DropRow", "scaling": "None"}}
    dataset = load(job(rows, data=data))
    for part in (dataset.training, dataset.validation, dataset.test):
        assert len({int(value) % 3 for value in part.x[:, 0]}) == 1


@pytest.mark.parametrize(
    ("rows", "column", "words"),
    [
        (SHOPS, "shpo", r"data\.split\.groupColumn: the data has no column shpo: did you mean shop"),
        ([*SHOPS, ",1,1", ",2,2"], "shop", "2 rows have no value in data.split.groupColumn"),
    ],
)
def test_groups_are_refused_if(job, rows, column, words):
    with pytest.raises(DataInvalid, match=words):
        load(job(rows, data={"split": {"method": "Group", "groupColumn": column}}))


# --- files of their own


@pytest.fixture
def held_out(job, tmp_path):
    """Data set of files (lines of CSV) for the parts; `split` and `preparation` as in the resource."""

    def make(training, split=None, preparation=None, columns=None, **files):
        places = {}
        for name, lines in {"training": training, **files}.items():
            (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
            places[name] = f"file://{tmp_path}/{name}.csv"
        named = {f"{name}Uri": places[name] for name in files}
        data = {
            "uri": places["training"],
            "target": "y",
            "split": named | (split or {}),
            "preparation": {"scaling": "None"} | (preparation or {}),
            "columns": columns,
        }
        locations = {f"{name}_location": Location(uri=places[name]) for name in files}
        return load(
            job().model_copy(
                update={
                    "data": blocks.Data.model_validate(data),
                    "data_location": Location(uri=places["training"]),
                    **locations,
                }
            )
        )

    return make


MANY = ["x,y", *(f"{v},{v}" for v in range(40))]


def columns_of(dataset):
    return [sorted(part.x[:, 0]) for part in (dataset.training, dataset.validation, dataset.test)]


def test_both_parts_may_have_files_of_their_own(held_out):
    # Columns may come in another order, and whole numbers may stand beside others.
    dataset = held_out(MANY, validation=["y,x", "1,100.5"], test=["x,more,y", "200,a,2", "201,b,3"])
    assert columns_of(dataset) == [list(range(40)), [100.5], [200, 201]]
    assert (dataset.validation.y, dataset.test.y.tolist()) == ([1.0], [2.0, 3.0])
    report = dataset.report
    assert (report.rows, report.training, report.validation, report.test, report.dropped) == (43, 40, 1, 2, 0)


@pytest.mark.parametrize(("part", "other"), [("validation", 2), ("test", 1)])
def test_the_other_part_is_a_share_of_the_rows_as_ever(held_out, part, other):
    taken = columns_of(held_out(MANY, **{part: ["x,y", "100,1"]}))
    assert (len(taken[0]), len(taken[other]), taken[3 - other]) == (36, 4, [100])


def test_the_preparation_is_fitted_to_the_training_file_alone(held_out):
    dataset = held_out(MANY, preparation={"scaling": "Standard"}, validation=["x,y", "1e9,1"], test=["x,y", "-1e9,1"])
    (column,) = dataset.preparation.columns
    assert (column.offset, column.scale) == pytest.approx((np.arange(40).mean(), np.arange(40).std()))


def test_dropped_rows_are_dropped_from_the_part_that_they_are_in(held_out):
    dataset = held_out(
        [*MANY, ",1"],
        preparation={"missingNumeric": "DropRow", "duplicates": "Drop"},
        validation=["x,y", ",2", "100,1", "5,5"],
        test=["x,y", "200,2", ",3", "200,2", "100,1"],
    )
    assert columns_of(dataset) == [list(range(40)), [100], [200]]
    assert (dataset.report.rows, dataset.report.dropped) == (48, 6)


def test_the_digest_is_one_of_all_files(held_out):
    first, again, other = (held_out(MANY, test=["x,y", row]).report.digest for row in ("1,1", "1,1", "2,1"))
    assert first == again != other
    assert held_out(MANY).report.digest not in (first, other)


@pytest.mark.parametrize("columns", [None, [{"name": "x", "type": "Categorical"}]], ids=["Auto", "Categorical"])
def test_codes_that_look_like_numbers_in_one_file_are_text_in_all(held_out, columns):
    dataset = held_out(["x,y", "07,1", "12,2", "A1,3"], validation=["x,y", "07,2"], test=["x,y", "12,2", "7,2"], columns=columns)
    assert dataset.preparation.outputs == ["x=07", "x=12", "x=A1"]
    assert dataset.validation.x.tolist() == [[1, 0, 0]]
    assert dataset.test.x.tolist() == [[0, 1, 0], [0, 0, 0]]


HELD_OUT_WRONG = {
    "a column is missing": ({"test": ["x,z", "1,2"]}, r"data\.split\.testUri: the data has no column y"),
    "text stands where numbers have to be": (
        {"columns": [{"name": "x", "type": "Numeric"}], "test": ["x,y", "a,2"]},
        "column x holds 'a' in row 1 of data.split.testUri, which is no number",
    ),
    "a target is missing": ({"validation": ["x,y", "1,2"], "test": ["x,y", "1,2", "3,"]}, "row 2 of data.split.testUri"),
    "a number is infinite": ({"validation": ["x,y", "1,2", "inf,2"]}, "row 2 of data.split.validationUri"),
    "nothing is left": (
        {"preparation": {"missingNumeric": "DropRow"}, "test": ["x,y", ",2"]},
        "every row of data.split.testUri lacks a value",
    ),
    "a value is missing that may not": (
        {"preparation": {"missingNumeric": "Error"}, "test": ["x,y", "1,2", ",2"]},
        "column x has no value in row 2 of data.split.testUri",
    ),
    "a row is repeated that may not": (
        {"preparation": {"duplicates": "Error"}, "test": ["x,y", "100,2", "3,3"]},
        "row 2 of data.split.testUri repeats an earlier row",
    ),
}


@pytest.mark.parametrize(("change", "words"), HELD_OUT_WRONG.values(), ids=HELD_OUT_WRONG.keys())
def test_files_of_their_own_are_refused_if(held_out, change, words):
    with pytest.raises(DataInvalid, match=words):
        held_out(MANY, **change)


def test_a_file_that_is_not_there_is_the_stores_refusal(job, tmp_path):
    uri = f"file://{tmp_path}/none.csv"
    config = job(MANY, data={"split": {"testUri": uri}}).model_copy(update={"test_location": Location(uri=uri)})
    with pytest.raises(StoreRefused, match=r"none\.csv: no such file"):
        load(config)
