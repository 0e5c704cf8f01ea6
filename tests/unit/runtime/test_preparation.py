"""Outliers, encodings, scalings, overrides: against scikit-learn where it has the same, and served as they were trained."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OrdinalEncoder, RobustScaler, StandardScaler

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Scaling
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.contract.reports import DataReport
from eagleray_runtime.data import images, outliers
from eagleray_runtime.data.encoding import HashedColumn, MissingValueError
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.preparation import Preparation, Transform, fit
from eagleray_runtime.data.scaling import Affine, Moments, fitted
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.models.network import Network
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.tensors import Tensor
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

NONE = np.nan
WORDS = ["red", "blue", "green", "red", "red", "violet", "blue"]
LEAST_SQUARES = {"epochs": 3000, "optimizer": {"type": "GradientDescent", "learningRate": 0.3}}


def numbers(values, kind=Kind.REAL):
    return Table({"x": Column(kind, np.array(values, dtype=float))})


def texts(values):
    return Table({"c": Column(Kind.TEXT, np.array(values, dtype=object))})


def prepared(table, **wanted):
    return Transform(fit(table, blocks.Preparation.model_validate(wanted))).table(table)


# --- against scikit-learn


@pytest.mark.parametrize(
    "values",
    [[1, 2, 3, 4, 100], [5, 5, 5, 5, 9], np.random.default_rng(0).normal(7, 3, 1000)],
    ids=["with an outlier", "mostly the same", "many"],
)
@pytest.mark.parametrize(
    ("scaling", "scaler"), [("Robust", RobustScaler()), ("Standard", StandardScaler()), ("MinMax", MinMaxScaler())]
)
def test_numbers_are_scaled_as_scikit_learn_does(values, scaling, scaler):
    expected = scaler.fit_transform(np.array(values, dtype=float)[:, np.newaxis])
    assert prepared(numbers(values), scaling=scaling) == pytest.approx(expected)


@pytest.mark.parametrize(("scaling", "scaler"), [("None", None), ("Robust", RobustScaler()), ("Standard", StandardScaler())])
def test_ordinal_categories_are_numbered_and_scaled_as_scikit_learn_does(scaling, scaler):
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    pipeline = make_pipeline(encoder, scaler) if scaler else encoder
    rows = np.array(WORDS, dtype=object)[:, np.newaxis]
    expected = pipeline.fit_transform(rows)
    transform = Transform(fit(texts(WORDS), blocks.Preparation(encoding="Ordinal", scaling=scaling)))
    assert transform.table(texts(WORDS)) == pytest.approx(expected)
    unseen = pipeline.transform(np.array([["white"]], dtype=object))
    assert transform.table(texts(["white"])) == pytest.approx(unseen)


@pytest.mark.parametrize("scaling", ["Standard", "MinMax", "Robust"])
@pytest.mark.parametrize("values", [[0.1] * 12, [0.7] * 9 + [None], [1e-9] * 7, [0.1 + 0.2] * 9 + [0.3]], ids=str)
def test_decimals_that_never_change_but_for_rounding_are_left_as_they_are(values, scaling):
    transform = Transform(fit(numbers(values), blocks.Preparation(scaling=scaling)))
    assert transform.table(numbers(values)) == pytest.approx(0, abs=1e-15)
    assert transform.table(numbers([values[0] + 0.1]))[0, 0] == pytest.approx(0.1)


@pytest.mark.parametrize("scaling", [Scaling.STANDARD, Scaling.MIN_MAX])
def test_decimals_that_never_change_are_left_as_they_are_where_they_are_seen_in_pieces(scaling):
    whole = sum((Moments.of(np.full(rows, 0.1)) for rows in (12, 7, 1000)), Moments())
    assert whole.affine(scaling) == fitted(np.full(1019, 0.1), scaling) == Affine(offset=0.1, scale=1.0)
    assert outliers.by_moments(whole) is None


def test_channels_of_images_that_never_change_are_left_as_they_are():
    pixels = np.full((10, 4, 4, 1), 0.1)
    assert images.fit("image", Column(Kind.IMAGE, pixels), Scaling.STANDARD).channels == [Affine(offset=0.1, scale=1.0)]


# --- encodings


def test_a_hashed_category_sets_one_of_32_columns_to_one_or_minus_one():
    table = texts([f"name {number}" for number in range(1000)])
    matrix = prepared(table, encoding="Hash", maxCategories=2)
    assert matrix.shape == (1000, 32)
    assert np.abs(matrix).sum(axis=1).tolist() == [1.0] * 1000
    # All 64 codes are used about alike: 1000 / 64 is near 16.
    counts = np.concatenate([(matrix == sign).sum(axis=0) for sign in (1, -1)])
    assert 3 < counts.min() <= counts.max() < 35
    assert abs(matrix.sum()) < 150


def test_hashed_categories_are_the_same_in_every_process():
    code = (
        "import numpy as np; from eagleray_runtime.data.encoding import HashedColumn; "
        "column = HashedColumn(name='c', fill='red', columns=32); "
        "matrix = column.encoder()(np.array(['red', 'Zürich', None], dtype=object)); "
        "print([(int(row), int(col), float(matrix[row, col])) for row, col in zip(*matrix.nonzero())])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    # Written down: another code would make a model of today wrong tomorrow.
    assert told == {"[(0, 17, 1.0), (1, 4, -1.0), (2, 17, 1.0)]\n"}


@pytest.mark.parametrize("encoding", ["Ordinal", "Hash"])
@pytest.mark.parametrize("missing", ["MostFrequent", "OwnCategory", "Error"])
def test_a_missing_category_is_filled_or_refused_whatever_the_encoding(encoding, missing):
    training = texts(WORDS if missing == "Error" else [*WORDS, None])
    transform = Transform(fit(training, blocks.Preparation(encoding=encoding, missing_categorical=missing, scaling="None")))
    if missing == "Error":
        with pytest.raises(MissingValueError, match="column c"):
            transform.table(texts([None]))
        return
    gap, most_frequent = transform.table(texts([None, "red"])).tolist()
    assert (gap == most_frequent) is (missing == "MostFrequent")


# --- outliers


@pytest.mark.parametrize(
    ("method", "values", "expected"),
    [
        ("IQR", [1, 2, 3, 4, 100], [1, 2, 3, 4, 7]),
        ("IQR", [-100, 2, 3, 4, NONE, 5], [-1, 2, 3, 4, 2.6, 5]),
        ("ZScore", [0] * 99 + [100], [0] * 99 + [1 + 3 * np.sqrt(99)]),
        ("ZScore", [1, 2, 3, 4, 100], [1, 2, 3, 4, 100]),
        ("IQR", [7, 7, 7, 7, 7, 9], [7, 7, 7, 7, 7, 9]),
        ("ZScore", [7, 7, 7], [7, 7, 7]),
        ("ZScore", [0.1] * 12, [0.1] * 12),
        ("None", [1, 2, 3, 4, 100], [1, 2, 3, 4, 100]),
    ],
    ids=[
        "beyond the fences",
        "a gap is filled by the mean of what was clipped",
        "beyond three deviations",
        "too few for a deviation",
        "most are the same",
        "all are the same",
        "all are the same decimal",
        "not wanted",
    ],
)
def test_outliers_are_clipped(method, values, expected):
    found = prepared(numbers(values), outliers=method, scaling="None")[:, 0]
    assert found == pytest.approx(np.array(expected, dtype=float))


def test_a_rare_true_is_no_outlier():
    values = [0.0] * 199 + [1.0]
    assert prepared(numbers(values, Kind.BOOLEAN), outliers="ZScore", scaling="None")[-1, 0] == 1


def test_a_fill_of_zero_beyond_the_bounds_stays_zero():
    table = numbers([10, 11, 12, 13, NONE])
    assert prepared(table, outliers="IQR", missingNumeric="Zero", scaling="None")[-1, 0] == 0


STRAY = ["x,y", *(f"{value},{value}" for value in range(1, 41)), "1000,41", "-1000,42"]
IN_ORDER = {"validationPercent": 0, "testPercent": 25, "seed": 1}


def rows_of(job, **preparation):
    return load(job(STRAY, data={"split": IN_ORDER, "preparation": {"scaling": "None"} | preparation}))


def test_bounds_come_from_the_training_part_and_hold_for_every_part(job):
    plain, clipped = rows_of(job), rows_of(job, outliers="IQR")
    low, high = clipped.preparation.numeric[0].low, clipped.preparation.numeric[0].high
    first, third = np.quantile(plain.training.x[:, 0], (0.25, 0.75))
    assert (low, high) == pytest.approx((first - 1.5 * (third - first), third + 1.5 * (third - first)))
    for part in ("training", "test"):
        assert getattr(clipped, part).x == pytest.approx(np.clip(getattr(plain, part).x, low, high))


def test_dropped_outliers_are_rows_of_the_training_part_only(job):
    plain, kept = rows_of(job), rows_of(job, outliers="IQR", outlierAction="DropRow")
    stray = np.abs(plain.training.x[:, 0]) == 1000
    assert stray.any(), "the seed has put no outlier into the training part"
    assert kept.training.x.tolist() == plain.training.x[~stray].tolist()
    assert kept.training.y.tolist() == plain.training.y[~stray].tolist()
    assert kept.test.x.tolist() == plain.test.x.tolist()
    assert kept.report.dropped == stray.sum()
    assert (kept.preparation.numeric[0].low, kept.preparation.numeric[0].high) == (None, None)


EACH_ROW_STRAYS = [
    "a,b,c,d,e,f,g,h,y",
    *(",".join(["1000" if row == column else str(row) for column in range(8)] + [str(row)]) for row in range(8)),
]
A_CLASS_THAT_STRAYS = ["x,y", *(f"{v},a" for v in range(30)), *(f"{v},b" for v in range(1000, 1004))]


@pytest.mark.parametrize(
    ("rows", "family", "words"),
    [
        (EACH_ROW_STRAYS, "LinearRegression", "every row of the training part has an outlier in some column: set .* to Clip"),
        (A_CLASS_THAT_STRAYS, "LogisticRegression", "every row of class b of target column y to train on has an outlier"),
    ],
    ids=["no row is left", "no row of a class is left"],
)
def test_outliers_are_not_dropped_if(job, rows, family, words):
    wanted = {"outliers": "IQR", "outlierAction": "DropRow"}
    split = {"validationPercent": 0, "testPercent": 0}
    with pytest.raises(DataInvalid, match=words):
        load(job(rows, family=family, data={"split": split, "preparation": wanted}))
    assert load(job(rows, family=family, data={"split": split, "preparation": wanted | {"outlierAction": "Clip"}})).report.changed


# --- overrides

SHOP = ["size,price,colour,shape,y", *(f"{v},{v * v},{'red' if v % 2 else 'blue'},{'abc'[v % 3]},{v}" for v in range(30))]


def test_an_override_holds_for_its_columns_only(job):
    overrides = [
        {"columns": ["price"], "scaling": "Robust", "outliers": "IQR", "missingNumeric": "Zero"},
        {"columns": ["shape"], "encoding": "Ordinal", "scaling": "None", "missingCategorical": "OwnCategory"},
    ]
    preparation = load(job(SHOP, data={"preparation": {"missingNumeric": "Median", "overrides": overrides}})).preparation
    size, price, colour, shape = preparation.columns
    assert (size.low, price.low is None) == (None, False)
    assert (size.fill > 0, price.fill) == (True, 0)
    assert preparation.outputs == ["size", "price", "colour=blue", "colour=red", "shape"]
    assert (shape.kind, shape.offset, shape.scale, shape.fill, colour.fill) == ("Ordinal", 0, 1, "", "red")


WRONG = {
    "a column that is not there": ([{"columns": ["prize"], "scaling": "None"}], "has no column prize: did you mean price"),
    "the target": ([{"columns": ["y"], "scaling": "None"}], "what is learned from has no column y"),
    "a column of two overrides": (
        [{"columns": ["size", "price"], "scaling": "None"}, {"columns": ["price"], "outliers": "IQR"}],
        "column price stands in two overrides",
    ),
    "an encoding of numbers": (
        [{"columns": ["size", "price"], "encoding": "Hash"}],
        "encoding is for text, of which size, price",
    ),
    "a fill of categories for numbers": (
        [{"columns": ["size"], "missingCategorical": "DropRow"}],
        "missingCategorical is for text",
    ),
    "a fill of numbers for text": ([{"columns": ["colour"], "missingNumeric": "Mean"}], "missingNumeric is for numbers"),
    "outliers of text": ([{"columns": ["colour"], "outliers": "IQR"}], "outliers is for numbers"),
    "a scaling of indicators": (
        [{"columns": ["colour"], "scaling": "None"}],
        "scaling is for numbers, or text of encoding Ordinal",
    ),
}


@pytest.mark.parametrize(("overrides", "words"), WRONG.values(), ids=WRONG.keys())
def test_an_override_is_refused_of(job, overrides, words):
    with pytest.raises(DataInvalid, match=words):
        load(job(SHOP, data={"preparation": {"overrides": overrides}}))


def test_a_missing_value_is_answered_as_its_override_says(job):
    rows = ["a,b,y", *(f"{v},{v},{v}" for v in range(20)), ",1,2", "1,,2"]
    dropped = {"overrides": [{"columns": ["a"], "missingNumeric": "DropRow"}]}
    report = load(job(rows, data={"preparation": dropped})).report
    assert (report.rows, report.dropped, report.changed) == (22, 1, 1)
    refused = {"overrides": [{"columns": ["b"], "missingNumeric": "Error"}]}
    with pytest.raises(DataInvalid, match="column b has no value in row 22"):
        load(job(rows, data={"preparation": refused}))


# --- the target


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"targetScaling": "None"}, (0, 1)),
        ({"targetScaling": "Standard"}, "deviation"),
        ({"targetScaling": "MinMax"}, "range"),
        ({}, "deviation"),
        ({"scaling": "None"}, (0, 1)),
        ({"scaling": "None", "targetScaling": "Standard"}, "deviation"),
    ],
)
def test_the_target_is_scaled_as_wanted_by_its_training_part(job, wanted, expected):
    rows = ["x,y", *(f"{v},{v * v}" for v in range(30))]
    dataset = load(job(rows, data={"preparation": wanted}))
    target = dataset.preparation.target
    y = dataset.training.y * target.scale + target.offset
    statistics = {"deviation": (y.mean(), y.std()), "range": (y.min(), y.max() - y.min())}
    assert (target.offset, target.scale) == pytest.approx(statistics.get(expected, expected))
    assert set(np.round(y, 6)) <= {v * v for v in range(30)}
    # What the user has not said is told.
    told = {choice.field for choice in dataset.chosen}
    assert ("data.preparation.targetScaling" in told) is (wanted == {})


def test_a_class_is_not_scaled(job):
    rows = ["x,y", *(f"{v},{'ab'[v % 2]}" for v in range(20))]
    with pytest.raises(DataInvalid, match="targetScaling MinMax is for a target that is a number"):
        load(job(rows, family="LogisticRegression", data={"preparation": {"targetScaling": "MinMax"}}))


# --- from training to serving


def trained(job, rows, **options):
    config = job(rows, **options)
    result = driver.run(config, Progress(config, Reporter(None)))
    serving = ServingConfig(
        resource={"kind": "ModelDeployment", "namespace": "team", "name": "m", "uid": "u", "generation": 1},
        revision="r1",
        name="m",
        model=config.output,
        digest=result.model.digest,
        engine="NumPy",
    )
    return result, load_model(serving), read_bundle(Store(config.output))


@pytest.mark.parametrize("scaling", ["None", "Standard", "MinMax"])
def test_answers_losses_and_metrics_are_in_the_targets_own_unit(job, scaling):
    rows = ["x,y", *(f"{v / 10},{1000 + 300 * (v / 10)}" for v in range(20))]
    preparation = {"targetScaling": scaling}
    _, model, bundle = trained(job, rows, data={"preparation": preparation}, training=LEAST_SQUARES)
    answer = model.infer([Tensor("features", np.array([[0.0], [1.0]]))])["prediction"]
    assert answer == pytest.approx([1000, 1300], rel=1e-6)
    (line,) = bundle.manifest.coefficients
    assert (line.intercept, line.weights["x"]) == pytest.approx((1000, 300), rel=1e-6)
    untrained, *_ = trained(
        job,
        rows,
        data={"preparation": preparation},
        training={"epochs": 1, "optimizer": {"type": "GradientDescent", "learningRate": 1e-12}},
        output={"uri": job().output.uri + "-2"},
    )
    rmse = next(metric.value for metric in untrained.metrics if (metric.name, metric.part) == ("RMSE", "Training"))
    assert untrained.progress.history[0].training == pytest.approx(rmse**2 / 2)


def test_values_are_clipped_encoded_and_filled_alike_in_training_and_in_serving(job):
    rows = [
        "size,price,colour,shape,y",
        *(f"{v},{v * v},{'red' if v % 2 else 'blue'},{'abc'[v % 3]},{v}" for v in range(30)),
        "5,100000,red,,3",
        ",2,,a,4",
    ]
    preparation = {
        "outliers": "IQR",
        "scaling": "Robust",
        "encoding": "Hash",
        "targetScaling": "MinMax",
        "overrides": [{"columns": ["shape"], "encoding": "Ordinal"}, {"columns": ["size"], "outliers": "None"}],
    }
    data = {"preparation": preparation, "split": {"validationPercent": 0, "testPercent": 0}}
    _, model, bundle = trained(job, rows, data=data, training={"epochs": 5})
    dataset = load(job(rows, data=data))
    network = Network(bundle.manifest.architecture, bundle.parameters)
    target = dataset.preparation.target
    expected = network.forward(dataset.training.x)[:, 0] * target.scale + target.offset

    cells = [line.split(",") for line in rows[1:]]
    columns = {
        "size": np.array([float(cell[0] or "nan") for cell in cells]),
        "price": np.array([float(cell[1]) for cell in cells]),
        "colour": np.array([cell[2] or None for cell in cells], dtype=object),
        "shape": np.array([cell[3] or None for cell in cells], dtype=object),
    }
    answer = model.infer([Tensor(name, values) for name, values in columns.items()])["prediction"]
    assert answer == pytest.approx(expected, rel=1e-12)
    assert [tensor["datatype"] for tensor in model.metadata["inputs"]] == ["FP64", "FP64", "BYTES", "BYTES"]


def test_coefficients_of_ordinal_and_hashed_columns_give_the_models_answer(job):
    rows = ["x,c,d,y", *(f"{v},{'abc'[v % 3]},{'pq'[v % 2]},{2 * v + v % 3}" for v in range(40))]
    preparation = {"encoding": "Hash", "overrides": [{"columns": ["c"], "encoding": "Ordinal"}]}
    _, model, bundle = trained(job, rows, data={"preparation": preparation}, training=LEAST_SQUARES)
    (line,) = bundle.manifest.coefficients
    b, q = np.array(["b"], dtype=object), np.array(["q"], dtype=object)
    codes = HashedColumn(name="d", fill=None, columns=32).encoder()(q)[0]
    hashed = sum(code * line.weights[f"d#{number}"] for number, code in enumerate(codes))
    by_hand = line.intercept + line.weights["x"] * 7 + line.weights["c"] * 1 + hashed
    answer = model.infer([Tensor("x", np.array([7.0])), Tensor("c", b), Tensor("d", q)])["prediction"]
    assert answer[0] == pytest.approx(by_hand)


def test_the_preparation_of_an_older_bundle_is_read_and_applied():
    # As the versions before outliers, other encodings and `changed` wrote it.
    old = """{"columns": [
        {"kind": "Numeric", "name": "x", "fill": 2.0, "offset": 1.0, "scale": 2.0},
        {"kind": "Categorical", "name": "c", "fill": "a", "categories": ["a", "b"]}
    ], "target": {"offset": 1.0, "scale": 3.0}}"""
    transform = Transform(Preparation.model_validate_json(old))
    prepared_rows = transform(np.array([[5.0], [NONE]]), {"c": np.array(["b", None], dtype=object)})
    assert prepared_rows.tolist() == [[2.0, 0.0, 1.0], [0.5, 1.0, 0.0]]
    report = {"rows": 4, "training": 2, "validation": 1, "test": 1, "dropped": 0, "digest": None, "notes": ["x: 1 filled"]}
    assert DataReport.model_validate_json(json.dumps(report)).changed == 0
