"""Reading, splitting and preparing rows."""

import gzip
import io

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import DataFormat
from eagleray_runtime.contract.config import Location
from eagleray_runtime.data.encoding import MissingValueError
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.preparation import Transform, fit
from eagleray_runtime.data.reading import read_files
from eagleray_runtime.data.splitting import split_rows
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid, ModelInvalid, StoreRefused

LINE = ["x,y", *(f"{value},{2 * value + 1}" for value in range(20))]
FLOWERS = ["x,colour,y", *(f"{value},{'red' if value % 2 else 'blue'},{'ab'[value % 2]}" for value in range(20))]


def numbers(**columns):
    return Table({name: Column(Kind.REAL, np.array(values, dtype=float)) for name, values in columns.items()})


def saved(save, *array, **arrays):
    """What a function of NumPy saves of arrays."""
    content = io.BytesIO()
    save(content, *array, **arrays)
    return content.getvalue()


def damaged(content):
    """The same with other bytes in its midst."""
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


# --- reading


def test_csv_keeps_words_that_look_like_missing_values():
    table = read_files([("a.csv", b"country,y\nNA,1\nnull,2\n,3\nFrance,4\n")], DataFormat.AUTO).table(["country", "y"])
    assert table["country"].values.tolist() == ["NA", "null", None, "France"]


LONG = "a word" * 500_000
"""More than Arrow reads at a time if nothing else is said."""


@pytest.mark.parametrize(
    ("name", "row"), [("a.csv", f"{LONG},1\n"), ("a.csv", f'"{LONG}\nand on",1\n'), ("a.jsonl", f'{{"t": "{LONG}", "y": 1}}\n')]
)
def test_a_row_may_hold_a_long_text(name, row):
    content = ("t,y\n" if name.endswith("csv") else "") + row * 3
    table = read_files([(name, content.encode())], DataFormat.AUTO).table(["t", "y"])
    assert [len(text) >= len(LONG) for text in table["t"].values] == [True] * 3
    assert table["y"].values.tolist() == [1, 1, 1]


def test_csv_numbers_may_be_missing():
    column = read_files([("a.csv", b"x,y\n1,1\n,2\nNaN,3\n")], DataFormat.AUTO).table(["x"])["x"]
    assert column.missing.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a (m, b);c\n1.5;x\n2.5;y\n", [[1.5, 2.5], ["x", "y"]]),
        ("a (m, b);c\n1,5;x\n2;y\n2,5;y\n3;z\n", [[1.5, 2, 2.5, 3], ["x", "y", "y", "z"]]),
        ("a;b\n1,5;x\n-2;y\n", [[1.5, -2.0], ["x", "y"]]),
        ('"a";"b"\n"1,5";"x, y; z"\n"2,5";"z"\n', [[1.5, 2.5], ["x, y; z", "z"]]),
        ("a;b\n1.5;2,5\n2.5;3,5\n", [[1.5, 2.5], ["2,5", "3,5"]]),
        ("a\tb\r\n1.5\tx, y\r\n2.5\tz\r\n", [[1.5, 2.5], ["x, y", "z"]]),
        ("a|b\n1.5|x\n2.5|y\n", [[1.5, 2.5], ["x", "y"]]),
        ("a,b\n1.5,x;1\n2.5,y|2\n", [[1.5, 2.5], ["x;1", "y|2"]]),
        ('a,"b;\nc"\n1.5,x\n2.5,y\n', [[1.5, 2.5], ["x", "y"]]),
    ],
    ids=[
        "a comma in a name",
        "a comma in a name and in numbers",
        "semicolons",
        "semicolons in quotes",
        "points and commas",
        "tabs",
        "bars",
        "commas",
        "a line's end in the header",
    ],
)
def test_what_separates_the_fields_of_csv_and_their_decimal_point_are_found(content, rows):
    source = read_files([("a.csv", content.encode())], DataFormat.AUTO)
    table = source.table(source.names)
    assert [table[name].values.tolist() for name in source.names] == rows


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", "\ufeff", "\ufeff\n  \n"])
def test_empty_lines_and_the_mark_of_utf_8_may_stand_before_the_header(before):
    source = read_files([("a.csv", f"{before}x,y\n1,2\n".encode())], DataFormat.AUTO)
    assert source.stored.to_pydict() == {"x": [1], "y": [2]}


def test_a_comma_that_separates_fields_is_no_decimal_point():
    source = read_files([("a.csv", b"x,y\n" + b"1,2\n" * 50_000 + b"1.5,2\n")], DataFormat.AUTO)
    assert source.table(["x"])["x"].values.tolist() == [1.0] * 50_000 + [1.5]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.GZ", "a.tsv.gz", "a.jsonl.gz"])
def test_files_may_be_packed(name):
    rows = b'{"x": 1}\n{"x": 2}\n' if "json" in name else b"x\n1\n2\n"
    source = read_files([(name, gzip.compress(rows))], DataFormat.AUTO)
    assert source.table(["x"])["x"].values.tolist() == [1, 2]


def test_npz_matrices_become_columns():
    content = saved(np.savez, x=np.arange(6.0).reshape(3, 2), y=np.array([1, 0, 1]))
    source = read_files([("a.npz", content)], DataFormat.AUTO)
    assert source.names == ["x_0", "x_1", "y"]
    assert source.table(["x_1"])["x_1"].values.tolist() == [1.0, 3.0, 5.0]


def test_npz_never_unpickles():
    content = saved(np.savez, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataInvalid, match=r"cannot be read as NPZ.*pickle"):
        read_files([("a.npz", content)], DataFormat.AUTO)


def test_parquet_is_read_with_its_types():
    pa = pytest.importorskip("pyarrow")

    content = io.BytesIO()
    pa.parquet.write_table(pa.table({"flag": [True, False], "x": [1, None]}), content)
    table = read_files([("a.parquet", content.getvalue())], DataFormat.AUTO).table(["flag", "x"])
    assert (table["flag"].kind, table["x"].kind) == (Kind.BOOLEAN, Kind.INTEGER)
    assert table["flag"].values.tolist() == [1.0, 0.0]


def test_text_of_parquet_may_be_stored_as_views():
    pa = pytest.importorskip("pyarrow")

    files = []
    for type_ in (pa.string_view(), pa.string()):
        content = io.BytesIO()
        pa.parquet.write_table(pa.table({"c": pa.array(["a", None, ""], type_), "x": [1, 2, 3]}), content)
        files.append((f"{type_}.parquet", content.getvalue()))
    assert read_files(files, DataFormat.AUTO).table(["c"])["c"].values.tolist() == ["a", None, None] * 2


@pytest.mark.parametrize("ending", ["jsonl", "ndjson"])
def test_json_lines_may_leave_fields_out_and_come_in_any_order(ending):
    first = (
        b'{"size": 1, "colour": "NA", "flag": true}\n{"colour": null, "flag": false}\n\n{"size": 2.5, "colour": "", "flag": true}'
    )
    second = b'{"colour": "red", "size": NaN, "flag": true}\n'
    source = read_files([(f"a.{ending}", first), (f"b.{ending}", second)], DataFormat.AUTO)
    assert source.names == ["size", "colour", "flag"]
    table = source.table(source.names)
    assert [column.kind for column in table.columns.values()] == [Kind.REAL, Kind.TEXT, Kind.BOOLEAN]
    assert table["size"].values.tolist() == pytest.approx([1, np.nan, 2.5, np.nan], nan_ok=True)
    assert table["colour"].values.tolist() == ["NA", None, None, "red"]


def test_json_lines_are_read_as_such_whatever_their_name_if_the_format_says_so():
    source = read_files([("rows.txt", b'{"x": 1}\n{"x": 2}\n')], DataFormat.JSON_LINES)
    assert source.table(["x"])["x"].values.tolist() == [1.0, 2.0]


def test_a_nested_column_can_be_left_out():
    source = read_files([("a.jsonl", b'{"x": 1, "more": {"y": [2]}}\n')], DataFormat.AUTO)
    assert source.table(["x"]).rows == 1
    with pytest.raises(DataInvalid, match=r"column more holds struct.*leave it out by data\.features"):
        source.table(["more"])


def test_files_are_read_together_only_if_their_columns_agree():
    files = [("a.csv", b"x,y\n1,2\n"), ("b.csv", b"x,z\n1,2\n")]
    with pytest.raises(DataInvalid, match=r"b\.csv has the columns x, z but a\.csv has x, y"):
        read_files(files, DataFormat.AUTO)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.txt", b"x,y\n1,2\n", "set data.format"),
        ("rows.csv", b"x,y\n", "holds no rows"),
        ("rows.csv", b"x,y\n1,2\n3\n", "cannot be read as CSV"),
        ("rows.parquet", b"not parquet", "cannot be read as Parquet"),
        ("rows.csv", b"x,x\n1,2\n", "more than one column x"),
        ("rows.csv", b"", "cannot be read as CSV"),
        ("rows.csv", "x,y\n1,2\n".encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        ("rows.csv.gz", b"x,y\n1,2\n", "cannot be unpacked"),
        ("rows.csv.gz", gzip.compress(b"x,y\n1,2\n", mtime=0)[:-9], "cannot be unpacked"),
        ("rows.jsonl", b"", "cannot be read as JSONLines"),
        ("rows.jsonl", b'{"x": 1}\n{"x": "a"}\n', "changed from number to string in row 1"),
        ("rows.jsonl", b'[{"x": 1}]', "cannot be read as JSONLines"),
        ("rows.jsonl", b'{"x": 1}\n{"x": ', "cannot be read as JSONLines"),
        ("rows.jsonl", b'{"x": "\xff"}', "cannot be read as JSONLines: .*UTF8"),
        ("rows.npz", saved(np.save, np.arange(3)), "it holds one array without a name: save arrays by numpy.savez"),
        ("rows.npz", damaged(saved(np.savez_compressed, x=np.arange(999))), "cannot be read as NPZ: Error -3 while"),
        ("rows.npz", saved(np.savez, x=np.zeros((2, 3, 4))), "array x has 3 dimensions, .* Custom, without data.columns"),
    ],
)
def test_unreadable_files_are_told(name, content, words):
    with pytest.raises(DataInvalid, match=words):
        read_files([(name, content)], DataFormat.AUTO)


def test_columns_that_are_left_out_may_hold_anything():
    source = read_files([("a.csv", b"day,x\n2026-01-01,1\n")], DataFormat.AUTO)
    assert source.table(["x"]).rows == 1
    with pytest.raises(DataInvalid, match=r"column day holds date32.*leave it out by data\.features"):
        source.table(["day"])


# --- preparation


def test_text_that_is_not_utf_8_is_told():
    source = read_files([("a.csv", "word,x\nseñor,1\n".encode("latin-1"))], DataFormat.AUTO)
    with pytest.raises(DataInvalid, match=r"column word holds bytes that are no text in UTF-8: save the data in UTF-8"):
        source.table(["word"])


def test_standard_scaling_gives_mean_zero_and_deviation_one():
    table = numbers(x=[1, 2, 3, 4], z=[10, 10, 20, 40])
    prepared = Transform(fit(table, blocks.Preparation())).table(table)
    assert prepared.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert prepared.std(axis=0) == pytest.approx([1, 1])


def test_min_max_scaling_gives_zero_to_one():
    table = numbers(x=[5, 10, 15])
    prepared = Transform(fit(table, blocks.Preparation(scaling="MinMax"))).table(table)
    assert prepared[:, 0].tolist() == [0.0, 0.5, 1.0]


def test_a_column_that_never_changes_is_left_at_zero():
    table = numbers(x=[3, 3, 3])
    assert Transform(fit(table, blocks.Preparation())).table(table).tolist() == [[0.0]] * 3


@pytest.mark.parametrize(("action", "filled"), [("Mean", 3.0), ("Median", 2.0), ("MostFrequent", 1.0), ("Zero", 0.0)])
def test_missing_numbers_are_filled(action, filled):
    table = numbers(x=[1, 1, 2, 5, 6, np.nan])
    prepared = Transform(fit(table, blocks.Preparation(missing_numeric=action, scaling="None"))).table(table)
    assert prepared[5, 0] == filled


def test_statistics_come_from_the_training_part_only(job):
    # The held-out rows are made extreme: had they been seen, mean and deviation would be too.
    config = job(LINE)
    parts = split_rows(20, config.data.split, None)
    rows = [f"{value},{value}" if value in parts.training else "1000000,5" for value in range(20)]
    dataset = load(job(["x,y", *rows]))
    column = dataset.preparation.numeric[0]
    assert column.offset == pytest.approx(parts.training.mean())
    assert column.scale == pytest.approx(parts.training.std())


def test_a_category_that_training_did_not_see_is_none_of_the_known_ones():
    table = Table({"c": Column(Kind.TEXT, np.array(["a", "b", "a", None], dtype=object))})
    transform = Transform(fit(table, blocks.Preparation()))
    rows = transform(np.empty((3, 0)), {"c": np.array(["b", "new", None], dtype=object)})
    assert rows.tolist() == [[0, 1], [0, 0], [1, 0]]


def test_a_category_of_its_own_takes_missing_and_unknown_values():
    table = Table({"c": Column(Kind.TEXT, np.array(["a", None], dtype=object))})
    transform = Transform(fit(table, blocks.Preparation(missing_categorical="OwnCategory")))
    assert transform(np.empty((2, 0)), {"c": np.array([None, "new"], dtype=object)}).tolist() == [[1, 0], [1, 0]]


def test_a_missing_value_is_refused_where_training_had_none():
    table = numbers(x=[1, 2])
    transform = Transform(fit(table, blocks.Preparation(missing_numeric="Error")))
    with pytest.raises(MissingValueError, match="column x"):
        transform(np.array([[np.nan]]), {})


# --- the whole way


def test_text_targets_become_classes_and_text_columns_indicators(job):
    dataset = load(job(FLOWERS, family="LogisticRegression"))
    assert dataset.classes == ["a", "b"]
    assert dataset.preparation.outputs == ["x", "colour=blue", "colour=red"]
    assert dataset.report.training == 16
    assert {choice.field: choice.value for choice in dataset.chosen}["data.split.method"] == "Stratified"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ("0 1 2 0 1 2 0 1 2 0", "Classification"),
        ("0.5 1 2 0 1 2 0 1 2 0", "Regression"),
        (" ".join(map(str, range(30))), "Regression"),
        ("true false true false true false true false true false", "Classification"),
    ],
)
def test_a_perceptron_takes_its_task_from_the_target(job, values, task):
    rows = ["x,y", *(f"{index},{value}" for index, value in enumerate(values.split()))]
    assert load(job(rows, family="MultilayerPerceptron", data={"split": {"testPercent": 0}})).task == task


def test_the_loss_decides_the_task_of_a_perceptron_that_could_be_either(job):
    rows = ["x,y", *(f"{value},{value % 3}" for value in range(20))]
    config = job(rows, family="MultilayerPerceptron", training={"loss": {"type": "MeanSquaredError"}})
    assert load(config).task == "Regression"


def test_whole_number_classes_are_in_the_order_of_numbers(job):
    rows = ["x,y", *(f"{value},{value % 11}" for value in range(60))]
    assert load(job(rows, family="LogisticRegression")).classes == [str(number) for number in range(11)]


def test_rows_with_missing_values_can_be_dropped(job):
    rows = [*LINE, ",5", ",7"]
    report = load(job(rows, data={"preparation": {"missingNumeric": "DropRow"}})).report
    assert (report.rows, report.dropped) == (22, 2)


def test_repeated_rows_can_be_dropped(job):
    report = load(job([*LINE, "3,7", "3,7"], data={"preparation": {"duplicates": "Drop"}})).report
    assert (report.rows, report.dropped) == (22, 2)


INVALID = {
    "the target is not a column": ({"rows": ["x,weight,y", "1,2,3"], "data": {"target": "wieght"}}, "did you mean weight"),
    "a feature is not a column": ({"rows": LINE, "data": {"features": ["z"]}}, "no column z"),
    "the target has a gap": ({"rows": [*LINE, "3,"]}, "target column y has no value .* in row 21"),
    "the target has NaN": ({"rows": ["x,y", "1,NaN", *LINE[1:]]}, "in row 1 "),
    "a column holds infinity": ({"rows": [*LINE, "inf,3"]}, "column x holds infinity in row 21"),
    "the target is text": ({"rows": FLOWERS}, "use LogisticRegression"),
    "the target is not a class": (
        {"rows": ["x,y", *(f"{value},{value}" for value in range(30))], "family": "LogisticRegression"},
        "whole numbers with 30 different values, too many for classes: use LinearRegression",
    ),
    "the target is a fraction": (
        {"rows": ["x,y", *(f"{value},{(value % 3 + 1) / 2}" for value in range(30))], "family": "LogisticRegression"},
        "real numbers with 3 different values, and no class is a fraction: use LinearRegression,.* or Categorical for it",
    ),
    "amounts are taken for classes": (
        {"rows": ["x,y", *(f"{value},{100 + value}" for value in range(18))], "family": "MultilayerPerceptron"},
        "no class has a row to spare to validate: .* whole numbers are taken for classes: set training.loss.type to MeanSq",
    ),
    "an amount taken for a class is not in the training part": (
        {
            "rows": ["x,y", *(f"{value},{100 + value}" for value in range(18))],
            "family": "MultilayerPerceptron",
            "data": {"split": {"method": "Random"}},
        },
        "is not in the training part: .* whole numbers are taken for classes",
    ),
    "there is one class": (
        {"rows": ["x,y", *(f"{value},a" for value in range(9))], "family": "LogisticRegression"},
        "one class only",
    ),
    "the loss wants numbers of classes": (
        {"rows": FLOWERS, "family": "MultilayerPerceptron", "training": {"loss": {"type": "Huber"}}},
        "holds text, which cannot be predicted as a number: drop training.loss.type",
    ),
    "the loss wants classes of amounts": (
        {
            "rows": ["x,y", *(f"{value},{value / 2}" for value in range(30))],
            "family": "MultilayerPerceptron",
            "training": {"loss": {"type": "CrossEntropy"}},
        },
        "no class is a fraction: drop training.loss.type, use a target of at most",
    ),
    "text is not encoded": (
        {"rows": FLOWERS, "family": "LogisticRegression", "data": {"preparation": {"encoding": "None"}}},
        "column colour holds text",
    ),
    "there are too many categories": (
        {
            "rows": ["x,y", *(f"name{value},{value}" for value in range(30))],
            "data": {"preparation": {"maxCategories": 5}},
        },
        "column x has 24 categories",
    ),
    "a word makes numbers categories": (
        {"rows": ["x,y", *(f"{value}.5,{value}" for value in range(200)), *["?,1"] * 20]},
        r"maxCategories \(100\): leave a missing value empty where it is '\?' \(1\d\d of 1\d\d values are numbers\), raise it",
    ),
    "a missing value is an error": (
        {"rows": [*LINE, ",3"], "data": {"preparation": {"missingNumeric": "Error"}}},
        "column x has no value in row 21",
    ),
    "repeated rows are an error": ({"rows": [*LINE, "3,7"], "data": {"preparation": {"duplicates": "Error"}}}, "row 21 repeats"),
    "there is nothing to learn from": ({"rows": ["y", "1", "2"]}, "no column to learn from"),
    "every row is dropped": (
        {"rows": ["x,y", ",1", ",2", ",3"], "data": {"preparation": {"missingNumeric": "DropRow"}}},
        "every row has a missing value",
    ),
    "numbers are not stratified": ({"rows": LINE, "data": {"split": {"method": "Stratified"}}}, "needs classes"),
}


@pytest.mark.parametrize(("config", "words"), INVALID.values(), ids=INVALID.keys())
def test_data_is_refused_when(job, config, words):
    with pytest.raises(DataInvalid, match=words):
        load(job(**config))


def test_a_loss_that_does_not_fit_the_family_is_refused(job):
    with pytest.raises(ModelInvalid, match="CrossEntropy does not go with LinearRegression"):
        load(job(LINE, training={"loss": {"type": "CrossEntropy"}}))


def test_rows_come_from_every_file_that_a_pattern_names(job, tmp_path):
    for number in range(3):
        (tmp_path / f"part{number}.csv").write_text("x,y\n" + "\n".join(f"{value},{value}" for value in range(10)))
    config = job().model_copy(
        update={
            "data": blocks.Data(uri=f"file://{tmp_path}/part*.csv", target="y"),
            "data_location": Location(uri=f"file://{tmp_path}/part*.csv"),
        }
    )
    assert load(config).report.rows == 30


def test_an_unreadable_uri_is_the_stores_refusal(job, tmp_path):
    config = job().model_copy(
        update={
            "data": blocks.Data(uri=f"file://{tmp_path}/none.csv", target="y"),
            "data_location": Location(uri=f"file://{tmp_path}/none.csv"),
        }
    )
    with pytest.raises(StoreRefused, match=r"none\.csv: no such file"):
        load(config)
