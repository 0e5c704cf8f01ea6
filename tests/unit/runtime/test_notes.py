"""What the status and the model card tell of the rows."""

import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.data.loading import load
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

ALL_TO_TRAIN = {"validationPercent": 0, "testPercent": 0}
CLEAN = ["size,colour,y", *(f"{v},{'red' if v % 3 else 'blue'},{v}" for v in range(1, 21))]


def report(job, rows, split=ALL_TO_TRAIN, **preparation):
    return load(job(rows, data={"split": split, "preparation": preparation})).report


TOLD = {
    "a mean": ([",red,1", ",red,2"], {}, 0, 2, ["2 missing values of size replaced by the mean, 10.5"]),
    "a median": ([",red,1"], {"missingNumeric": "Median"}, 0, 1, ["1 missing value of size replaced by the median, 10.5"]),
    "a zero": ([",red,1"], {"missingNumeric": "Zero"}, 0, 1, ["1 missing value of size replaced by 0"]),
    "the most frequent": (["3,,1"], {}, 0, 1, ["1 missing value of colour replaced by the most frequent, red"]),
    "a category of its own": (
        ["3,,1"],
        {"missingCategorical": "OwnCategory"},
        0,
        1,
        ["1 missing value of colour taken as a category of their own"],
    ),
    "rows without a value": (
        [",,1", "3,,2"],
        {"missingNumeric": "DropRow", "missingCategorical": "DropRow"},
        2,
        0,
        ["2 rows without size, colour dropped"],
    ),
    "repeats": (["4,red,4", "4,red,4", "4,red,4"], {"duplicates": "Drop"}, 3, 0, ["3 rows dropped: repeats of earlier ones"]),
    "clipped values": (["99,red,1", "-99,red,1"], {"outliers": "IQR"}, 0, 2, ["2 values of size clipped to -10.5..31.5"]),
    "dropped outliers": (
        ["99,red,1"],
        {"outliers": "IQR", "outlierAction": "DropRow"},
        1,
        0,
        ["1 row of the training part with outliers in size dropped"],
    ),
    "two changes of one row": (
        ["99,,1"],
        {"outliers": "IQR"},
        0,
        1,
        ["1 value of size clipped to -9..31", "1 missing value of colour replaced by the most frequent, red"],
    ),
    "nothing": ([], {}, 0, 0, []),
}


@pytest.mark.parametrize(("more", "preparation", "dropped", "changed", "notes"), TOLD.values(), ids=TOLD.keys())
def test_the_report_tells_of(job, more, preparation, dropped, changed, notes):
    found = report(job, [*CLEAN, *more], **preparation)
    assert (found.rows, found.training, found.dropped, found.changed) == (
        20 + len(more),
        20 + len(more) - dropped,
        dropped,
        changed,
    )
    assert found.notes == notes


def test_every_row_is_in_a_part_or_dropped(job):
    rows = [*CLEAN, ",red,1", "4,red,4", "99,red,1", "98,red,1"]
    wanted = {"missingNumeric": "DropRow", "duplicates": "Drop", "outliers": "IQR", "outlierAction": "DropRow"}
    found = report(job, rows, split={"seed": 3}, **wanted)
    assert found.dropped > 2
    assert found.rows == found.training + found.validation + found.test + found.dropped == 24


def test_notes_are_few_and_short_however_many_and_long_the_columns(job):
    names = [f"{'measurement' * 20}{number}" for number in range(40)]
    rows = [",".join([*names, "y"]), *(",".join(["1"] * 40 + [str(v)]) for v in range(10)), "," * 40 + "5"]
    notes = report(job, rows).notes
    assert (len(notes), notes[-1]) == (16, "and 25 more of this kind")
    assert max(len(note) for note in notes) < 150
    (dropped,) = report(job, rows, missingNumeric="DropRow").notes
    assert dropped.endswith("or 38 more columns dropped")
    assert len(dropped) < 150


def test_the_result_and_the_model_card_tell_the_same(job, tmp_path):
    config = job([*CLEAN, "99,red,1"], data={"split": ALL_TO_TRAIN, "preparation": {"outliers": "IQR"}}, training={"epochs": 1})
    result = driver.run(config, Progress(config, Reporter(None)))
    assert result.data == read_bundle(Store(config.output)).manifest.data
    (card,) = (tmp_path / "model").glob("MODEL_CARD-*.md")
    lines = card.read_text().splitlines()
    assert "- 21 rows read: 21 to train, 0 to validate, 0 to test, 0 dropped; values of 1 replaced or clipped" in lines
    assert "- 1 value of size clipped to -9..31" in lines
