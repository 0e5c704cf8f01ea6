"""data.columns: what columns are taken for."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from eagleray_runtime.contract.blocks import DataFormat
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.data import survey
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.reading import read_files
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.tensors import BadTensorError, Tensor
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

AS_IT_IS = {"scaling": "None"}


def typed(job, rows, types, family="LinearRegression", **data):
    columns = [{"name": name, "type": type_} for name, type_ in types.items()]
    return job(rows, family=family, data={"columns": columns, "preparation": AS_IT_IS} | data)


SHOP = ["id,zip,size,y", *(f"{10**18 + v},{(1010, 2020, 3030)[v % 3]},{v / 2},{v}" for v in range(30))]


def test_an_identifier_is_never_learned_from(job):
    # As a number it would be refused: beyond 2^53 float64 has not every whole number.
    assert load(typed(job, SHOP, {"id": "Identifier"})).preparation.outputs == ["zip", "size"]


def test_numbers_can_be_taken_as_categories(job):
    dataset = load(typed(job, SHOP, {"id": "Identifier", "zip": "Categorical"}))
    assert dataset.preparation.outputs == ["size", "zip=1010", "zip=2020", "zip=3030"]
    assert dataset.example["zip"] == "1010"


def test_what_is_said_to_be_auto_is_as_if_nothing_were_said(job):
    rows = ["x,c,y", *(f"{v},{'ab'[v % 2]},{v}" for v in range(20))]
    said, unsaid = load(typed(job, rows, {"x": "Auto", "c": "Auto"})), load(job(rows, data={"preparation": AS_IT_IS}))
    assert said.preparation == unsaid.preparation
    assert np.array_equal(said.training.x, unsaid.training.x)


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (pa.array([3, None, 10], pa.int64()), ["3", None, "10"]),
        (pa.array([3.0, None, 2.5, float("nan")]), ["3", None, "2.5", None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([2**60 + 1]), ["1152921504606846977"]),
        (pa.array(["a", "", None]), ["a", None, None]),
        (pa.array([0], pa.date32()), ["1970-01-01"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ],
    ids=["whole numbers", "real numbers", "true and false", "great numbers", "text", "dates", "a dictionary"],
)
def test_a_category_is_the_text_of_its_value(values, categories):
    column = read_files([("a.parquet", parquet(x=values))], DataFormat.AUTO).texts("x")
    assert column.values.tolist() == categories


def parquet(**columns):
    content = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), content)
    return content.getvalue()


def test_lists_are_no_categories():
    source = read_files([("a.parquet", parquet(x=pa.array([[1], [2]])))], DataFormat.AUTO)
    with pytest.raises(DataInvalid, match="column x holds list"):
        source.texts("x")


def test_text_that_holds_numbers_is_read_as_such(job):
    # One word makes the whole column text in CSV; here the spaces do.
    rows = ["x,y", *(f'"{v}.5 ",{v}' for v in range(20)), '"  ",3', '"1e3",4']
    split = {"validationPercent": 0, "testPercent": 0}
    assert load(job(rows, data={"split": split})).preparation.categorical
    dataset = load(typed(job, rows, {"x": "Numeric"}, split=split))
    assert dataset.training.x[:3, 0].tolist() == [0.5, 1.5, 2.5]
    assert dataset.training.x[-1, 0] == 1000
    assert dataset.report.notes == ["1 missing value of x replaced by the mean, 57.1429"]


@pytest.mark.parametrize("value", ["1,5", "12 m", "n/a", "0x10", "?", "-"])
def test_text_that_is_no_number_is_refused_with_row_column_and_value(job, value):
    rows = ["x,y", *(f"{v},{v}" for v in range(7)), f'"{value}",3', "worse,4"]
    with pytest.raises(DataInvalid) as refused:
        load(typed(job, rows, {"x": "Numeric"}))
    assert f"column x holds {value!r} in row 8, which is no number" in refused.value.message


def test_true_and_false_can_be_taken_as_numbers_that_have_outliers(job):
    rows = ["x,y", *(f"{'true' if v == 9 else 'false'},{v}" for v in range(100))]
    wanted = {"split": {"validationPercent": 0, "testPercent": 0}, "preparation": {"outliers": "ZScore"}}
    plain, numeric = (load(typed(job, rows, {"x": type_}, **wanted)) for type_ in ("Auto", "Numeric"))
    assert (plain.report.changed, numeric.report.changed) == (0, 1)


# --- as it is written

NAMELESS = "a column without a name left out: give it one to learn from it"

CODES = ["01004", "1004", "1.50", "True", "1e3"]


@pytest.fixture
def files(job, tmp_path):
    """The data set of several files of a format, of which column c may be categorical, however they are loaded."""

    def make(contents, types=None, loading="Memory", target="y", family="LinearRegression", ending="csv", **more):
        for number, content in enumerate(contents):
            (tmp_path / f"p{number}.{ending}").write_text(content)
        uri = f"file://{tmp_path}/p*.{ending}"
        columns = [{"name": name, "type": type_} for name, type_ in (types or {}).items()] or None
        split = {"validationPercent": 0, "testPercent": 0}
        data = {"uri": uri, "sample": None, "target": target, "columns": columns, "loading": loading, "split": split}
        config = job(data=data | {"preparation": AS_IT_IS} | more, family=family, dataLocation={"uri": uri})
        return survey.load(config, {}) if loading == "Stream" else load(config)

    return make


LOADINGS = pytest.mark.parametrize("loading", ["Memory", "Stream"])


@LOADINGS
@pytest.mark.parametrize("types", [{}, {"c": "Categorical"}], ids=["Auto", "Categorical"])
def test_codes_that_look_like_numbers_in_one_file_are_text_in_all(files, loading, types):
    contents = ["c,y\nA1,1\n12,2\n7,3\n", "y,c\n1,12\n2,07\n"]
    assert files(contents, types, loading).preparation.outputs == ["c=07", "c=12", "c=7", "c=A1"]


@LOADINGS
def test_categories_of_csv_are_as_they_are_written(files, loading):
    dataset = files(["\n".join(["c,y", *(f"{code},{y}" for y, code in enumerate(CODES))])], {"c": "Categorical"}, loading)
    assert dataset.preparation.outputs == [f"c={code}" for code in sorted(CODES)]
    assert dataset.example["c"] == "01004"


@LOADINGS
def test_blanks_around_what_stands_in_csv_are_none_of_it(files, loading):
    content = "x, c, flag, y\n0.1, a, true, 1\n , a , false, 2\n NA,\tb c, , 3\n2, , true, 4\n"
    dataset = files([content], None, loading)
    assert dataset.preparation.outputs == ["x", "flag", "c=a", "c=b c"]
    assert len(dataset.report.notes) == 3
    x = np.concatenate([x for x, _ in dataset.training.pieces()])
    assert x.tolist() == pytest.approx(np.array([[0.1, 1, 1, 0], [1.05, 0, 1, 0], [1.05, 2 / 3, 0, 1], [2, 1, 1, 0]]))


@LOADINGS
def test_blanks_around_a_class_are_none_of_it(files, loading):
    content = "\n".join(["x, c", *(f"{row}, {'ab'[row % 2]}{' ' * (row % 3)}" for row in range(30))])
    assert files([content], None, loading, target="c", family="LogisticRegression").classes == ["a", "b"]


@LOADINGS
@pytest.mark.parametrize("form", [",x,y\n{0},{1},{2}\n", "x,y,\n{1},{2},\n", ",x,,y,\n{0},{1},7,{2},\n"])
def test_columns_without_a_name_are_not_learned_from(files, loading, form):
    header, row = form.splitlines(keepends=True)
    dataset = files([header + "".join(row.format(n, n / 2, n) for n in range(30))] * 2, None, loading)
    assert dataset.preparation.outputs == ["x"]
    assert dataset.report.notes == [NAMELESS]


@LOADINGS
def test_the_index_of_pandas_is_learned_from_only_if_it_is_named(files, tmp_path, loading):
    index = "__index_level_0__"
    (tmp_path / "p.parquet").write_bytes(parquet(x=np.arange(30) / 2, y=np.arange(30), **{index: np.arange(30)}))
    dataset = files([], None, loading, ending="parquet")
    assert dataset.preparation.outputs == ["x"]
    assert dataset.report.notes == [
        "column __index_level_0__ left out: it numbers the rows; name it in data.features to learn from it"
    ]
    dataset = files([], None, loading, ending="parquet", features=["x", index])
    assert dataset.preparation.outputs == ["x", index]
    assert dataset.report.notes == []


@LOADINGS
def test_a_few_words_that_make_numbers_categories_are_told(files, loading):
    content = "\n".join(
        ["power,code,y", *(f"{n}.5,{n}{'ab' if n % 2 else ''},{n}" for n in range(30)), "?,9,1", ",9,2", "n/a,,2", "?,,2"]
    )
    dataset = files([content], None, loading)
    assert dataset.report.notes[:2] == [
        "30 of 33 values of power are numbers, '?' is not: all are taken as categories; leave a missing value empty, or say "
        "Categorical in data.columns",
        "17 of 32 values of code are numbers, '1ab' is not: all are taken as categories; leave a missing value empty, or say "
        "Categorical in data.columns",
    ]
    told = files([content], {"power": "Categorical", "code": "Categorical"}, loading).report.notes
    assert not [note for note in told if "are numbers" in note]


@LOADINGS
def test_categories_of_json_lines_are_the_text_of_their_values(files, loading):
    contents = ['{"c": 7, "y": 1}\n{"c": 2.50, "y": 2}\n']
    assert files(contents, {"c": "Categorical"}, loading, ending="jsonl").preparation.outputs == ["c=2.5", "c=7"]


@LOADINGS
def test_classes_of_csv_are_as_they_are_written(files, loading):
    content = "\n".join(["x,c", *(f"{row},{'01' if row % 2 else '02'}" for row in range(30))])
    dataset = files([content], {"c": "Categorical"}, loading, target="c", family="LogisticRegression")
    assert dataset.classes == ["01", "02"]


def test_a_category_of_json_lines_may_be_a_number_in_one_file_and_text_in_another(files):
    contents = ['{"c": 7, "y": 1}\n', '{"c": "A1", "y": 2}\n']
    assert files(contents, {"c": "Categorical"}, ending="jsonl").preparation.outputs == ["c=7", "c=A1"]
    with pytest.raises(DataInvalid, match=r"types that do not go together: .*: write them alike"):
        files(contents, ending="jsonl")


# --- the target


def test_a_target_of_many_numbers_can_be_classes(job):
    rows = ["x,y", *(f"{v},{v % 25}" for v in range(100))]
    assert load(typed(job, rows, {"y": "Categorical"}, family="MultilayerPerceptron")).task == "Classification"
    with pytest.raises(DataInvalid, match=r"or Categorical for it in data\.columns"):
        load(job(rows, family="LogisticRegression"))
    assert len(load(typed(job, rows, {"y": "Categorical"}, family="LogisticRegression")).classes) == 25


def test_a_target_of_text_can_be_numbers(job):
    rows = ["x,y", *(f'{v},"{2 * v} "' for v in range(30))]
    dataset = load(typed(job, rows, {"y": "Numeric"}))
    assert dataset.task == "Regression"
    assert set(dataset.training.y) <= {2 * v for v in range(30)}


WRONG = {
    "a column is not there": ([{"name": "sise"}], None, r"data\.columns: the data has no column sise: did you mean size"),
    "a column stands twice": ([{"name": "size"}, {"name": "size", "type": "Numeric"}], None, "data.columns names size twice"),
    "the target is an identifier": ([{"name": "y", "type": "Identifier"}], None, "the target y is an Identifier"),
    "a feature is an identifier": ([{"name": "size", "type": "Identifier"}], ["size"], "data.features names size"),
    "nothing is left": (
        [{"name": name, "type": "Identifier"} for name in ("id", "zip", "size")],
        None,
        "no column to learn from",
    ),
    "a great number is left as it is": ([{"name": "size"}], None, r"beyond 2\^53.*say Identifier in data\.columns"),
}


@pytest.mark.parametrize(("columns", "features", "words"), WRONG.values(), ids=WRONG.keys())
def test_columns_are_refused_if(job, columns, features, words):
    named = {"features": features} if features else {}
    with pytest.raises(DataInvalid, match=words):
        load(job(SHOP, data={"columns": columns} | named))


# --- served


def test_categories_that_were_numbers_are_served_by_their_text(job):
    rows = ["zip,size,y", *(f"{(1010, 2020)[v % 2]},{v / 10},{100 if v % 2 else 0}" for v in range(40))]
    config = typed(job, rows, {"zip": "Categorical"})
    training = {"epochs": 2000, "optimizer": {"type": "GradientDescent", "learningRate": 0.1}}
    config = config.model_copy(update={"training": type(config.training).model_validate(training)})
    result = driver.run(config, Progress(config, Reporter(None)))
    serving = ServingConfig(
        resource={"kind": "ModelDeployment", "namespace": "team", "name": "m", "uid": "u", "generation": 1},
        revision="r1",
        name="m",
        model=config.output,
        digest=result.model.digest,
        engine="NumPy",
    )
    model = load_model(serving)
    assert {tensor["name"]: tensor["datatype"] for tensor in model.metadata["inputs"]} == {"zip": "BYTES", "size": "FP64"}
    size = Tensor("size", np.array([1.0, 1.0]))
    answer = model.infer([Tensor("zip", np.array(["1010", "2020"], dtype=object)), size])["prediction"]
    assert answer == pytest.approx([0, 100], abs=1)
    with pytest.raises(BadTensorError, match="expected BYTES"):
        model.infer([Tensor("zip", np.array([1010.0, 2020.0])), size])
