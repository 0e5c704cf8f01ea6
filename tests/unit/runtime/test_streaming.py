"""Rows that are streamed: what is fitted to them, in which order they are learned from, and what that costs in memory."""

import csv
import gzip
import json
import pickle
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import DataFormat
from eagleray_runtime.data import by_position, chunks, stored, streaming, survey
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.preparation import fit
from eagleray_runtime.data.reading import read_files
from eagleray_runtime.data.scaling import fitted
from eagleray_runtime.data.table import Table
from eagleray_runtime.errors import DataInvalid, StoreRefused
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.order import order_stream
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.progress import Progress

ROWS = 3000
ADAM = {"epochs": 12, "batchSize": 50, "optimizer": {"type": "Adam", "learningRate": 0.03}}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Chunks and pools that a few rows are many of."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 5000)
    monkeypatch.setattr(streaming, "POOL_NUMBERS", 1500)


@pytest.fixture
def rows():
    """Numbers with gaps and outliers, true/false, words with quotes and line ends in them, and a target that they decide."""
    random = np.random.default_rng(1)
    a, b = random.normal(5, 2, ROWS), random.exponential(3, ROWS)
    word = random.choice(["red", 'bl"ue', "gr\neen"], ROWS, p=[0.5, 0.3, 0.2])
    flag = random.random(ROWS) < 0.3
    y = 3 * a - 2 * b + 4 * (word == "red") + flag + random.normal(0, 0.1, ROWS)
    a[::11] = np.nan
    words = [None if number % 17 == 0 else each for number, each in enumerate(word)]
    half = np.where(y > np.median(y), "high", "low")
    return pa.table({"a": pa.array(a, from_pandas=True), "b": b, "word": words, "flag": flag, "y": y, "half": half})


def written(rows, path):
    """Write the rows as the path's ending says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, path, row_group_size=130)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    else:
        cells = [['""' if c is None else '"' + str(c).replace('"', '""') + '"' for c in row.values()] for row in rows.to_pylist()]
        lines = [",".join(cell if '"' in cell[1:-1] or "\n" in cell else cell[1:-1] for cell in row) for row in cells]
        path.write_text("\n".join([" a,b , word,flag,y,half", *lines]))


@pytest.fixture
def streamed(job, tmp_path, rows):
    """Configuration of a job that streams the rows from a file, or whatever stands in its folder."""

    def make(name="rows.csv", *, table=rows, data=None, training=None, family="LinearRegression", **fields):
        if table is not None:
            written(table, tmp_path / name)
        uri = f"file://{tmp_path}/{name}"
        source = {"uri": uri, "sample": None, "target": "y", "loading": "Stream", "features": ["a", "b", "word", "flag"]}
        config = {"data": source | (data or {}), "training": training or ADAM, "dataLocation": {"uri": uri}}
        return job(family=family, **config, **fields)

    return make


def in_memory(config):
    return config.model_copy(update={"data": config.data.model_copy(update={"loading": blocks.Loading.MEMORY})})


def trained(config):
    result = driver.run(config, Progress(config, Reporter(None)))
    return result, read_bundle(Store(config.output)).manifest


def together(part, epoch, size=100, lanes=1, mine=(0,)):
    """The rows of an epoch, batch by batch."""
    return list(part.shares(size, lanes, mine, partial(order_stream, 7, epoch)))


# --- chunks


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_chunks_hold_the_rows_and_the_digest_of_the_files(streamed, tmp_path, rows, name):
    config = streamed(name)

    found = chunks.find(config.data_location, DataFormat.AUTO)

    whole = read_files([(name, (tmp_path / name).read_bytes())], DataFormat.AUTO)
    names = ["a", "b", "word", "flag", "y"]
    assert len(found.chunks) > 10
    assert found.digest == whole.digest
    read = pa.concat_tables(map(found.reader(names), found.chunks))
    assert read.equals(whole.stored.select(names).cast(read.schema).combine_chunks()) or read.to_pylist() == (
        whole.stored.select(names).to_pylist()
    )
    assert [chunk.first for chunk in found.chunks] == np.cumsum([0, *(chunk.rows for chunk in found.chunks[:-1])]).tolist()


def test_a_column_that_holds_numbers_first_and_text_later_is_text_in_all_chunks(folder, tmp_path):
    (tmp_path / "codes.csv").write_text("code,y\n" + "007,1\n" * 2000 + "A7,1\n")
    found = chunks.find(folder("codes.csv"), DataFormat.AUTO)
    codes = [code for rows in map(found.reader(["code"]), found.chunks) for code in rows["code"].to_pylist()]
    assert codes == ["007"] * 2000 + ["A7"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text('ab",;|\t\n ', max_size=12), min_size=1, max_size=40), st.sampled_from(",;\t|"), st.integers(8, 200))
def test_text_comes_out_of_chunks_as_arrow_reads_it_from_the_whole_file(folder, tmp_path, texts, separator, size):
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\n").writerows([["text", "y"], *([text, 1] for text in texts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", size)
        found = chunks.find(folder("texts.csv"), DataFormat.AUTO)
    whole = read_files([("texts.csv", (tmp_path / "texts.csv").read_bytes())], DataFormat.AUTO)
    read = pa.concat_tables(map(found.reader(["text", "y"]), found.chunks))
    assert read.to_pylist() == whole.stored.to_pylist()


def test_numbers_with_a_decimal_comma_are_numbers_in_all_chunks(folder, tmp_path):
    (tmp_path / "a.csv").write_text("x;y\n" + "1,5;1\n" * 2000 + "2;1\n")
    found = chunks.find(folder("a.csv"), DataFormat.AUTO)
    assert [x for rows in map(found.reader(["x"]), found.chunks) for x in rows["x"].to_pylist()] == [1.5] * 2000 + [2.0]
    assert len(found.chunks) > 2


@pytest.mark.parametrize("before", ["\n", "\r\n" * 3000, "\ufeff", "\ufeff\n  \n"])
def test_empty_lines_and_the_mark_of_utf_8_may_stand_before_the_header(folder, tmp_path, before):
    (tmp_path / "a.csv").write_bytes((before + "x,y\n" + "15,1\n" * 2000).encode())
    found = chunks.find(folder("a.csv"), DataFormat.AUTO)
    assert [x for rows in map(found.reader(["x"]), found.chunks) for x in rows["x"].to_pylist()] == [15] * 2000


def test_text_of_parquet_may_be_stored_as_views(folder, tmp_path):
    pyarrow.parquet.write_table(pa.table({"c": pa.array(["a", "b"], pa.string_view())}), tmp_path / "a.parquet")
    found = chunks.find(folder("a.parquet"), DataFormat.AUTO)
    assert [rows["c"].to_pylist() for rows in map(found.reader(["c"]), found.chunks)] == [["a", "b"]]


def test_a_packed_file_is_refused(folder, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n1,2\n"))
    with pytest.raises(DataInvalid, match=r"a\.csv\.gz: data\.loading Stream .* unpack it"):
        chunks.find(folder("a.csv.gz"), DataFormat.AUTO)


def test_a_quote_within_a_field_is_text_like_any_other(folder, tmp_path):
    (tmp_path / "pipes.csv").write_text('width,y\n"2"" or\nless",0\n' + '5" pipe,1\n' * 2001)
    found = chunks.find(folder("pipes.csv"), DataFormat.AUTO)
    widths = [width for rows in map(found.reader(["width"]), found.chunks) for width in rows["width"].to_pylist()]
    assert widths == ['2" or\nless'] + ['5" pipe'] * 2001
    assert len(found.chunks) > 2


def test_times_in_some_rows_and_other_text_in_later_ones_are_text(folder, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"y": 1, "since": "2026-01-31T12:00:00"}\n' * 500 + '{"y": 1, "since": "never"}\n')
    found = chunks.find(folder("a.jsonl"), DataFormat.AUTO)
    since = [each for rows in map(found.reader(["since"]), found.chunks) for each in rows["since"].to_pylist()]
    assert since == ["2026-01-31T12:00:00"] * 500 + ["never"]


def test_a_field_that_only_later_rows_have_is_missing_in_the_others(folder, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"y": 1}\n' * 500 + '{"y": 1, "x": 2.5}\n')
    found = chunks.find(folder("a.jsonl"), DataFormat.AUTO)
    xs = [x for rows in map(found.reader(["x"]), found.chunks) for x in rows["x"].to_pylist()]
    assert xs == [None] * 500 + [2.5]


def test_files_that_a_pattern_names_follow_each_other(streamed, tmp_path, rows):
    for number in range(3):
        written(rows.slice(number * 1000, 1000), tmp_path / f"part-{number}.csv")
    several, one = (survey.load(streamed(name, table=table), {}) for name, table in (("part-*.csv", None), ("rows.csv", rows)))
    assert several.report.rows == ROWS
    assert several.preparation.numeric[0].offset == pytest.approx(one.preparation.numeric[0].offset, abs=1e-12)


def test_a_row_group_that_is_too_large_is_refused(streamed, monkeypatch):
    monkeypatch.setattr(chunks, "LARGEST_ROW_GROUP", 1000)
    with pytest.raises(DataInvalid, match=r"row group 0 has .* write the file with smaller row groups"):
        survey.load(streamed("rows.parquet"), {})


def test_a_file_that_changes_while_it_is_learned_from_is_told(streamed, tmp_path, rows):
    dataset = survey.load(streamed("rows.csv"), {})
    path = tmp_path / "rows.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 2000))
    with pytest.raises(DataInvalid, match=r"rows.csv (has changed while|cannot be read)"):
        list(dataset.training.pieces())


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_file_that_is_gone_while_it_is_learned_from_is_the_stores_refusal(streamed, tmp_path, name):
    dataset = survey.load(streamed(name), {})
    (tmp_path / name).unlink()
    with pytest.raises(StoreRefused, match=rf"cannot read {name}: .*check folder"):
        list(dataset.training.pieces())


def test_a_file_that_is_not_what_its_name_says_is_the_users_error(streamed, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" * 100)
    with pytest.raises(DataInvalid, match=r"rows.parquet cannot be read as Parquet"):
        survey.load(streamed("rows.parquet", table=None), {})


# --- parts


def test_a_rows_part_depends_on_its_place_and_the_seed_alone():
    split = blocks.Split(seed=3)
    whole = by_position.parts(0, 1000, split)
    assert np.array_equal(np.concatenate([by_position.parts(0, 400, split), by_position.parts(400, 600, split)]), whole)
    assert not np.array_equal(by_position.parts(0, 1000, blocks.Split(seed=4)), whole)


@pytest.mark.parametrize(("validation", "test"), [(10, 10), (0, 25), (50, 0)])
def test_parts_have_about_their_shares(validation, test):
    found = by_position.parts(10**12, 100_000, blocks.Split(validationPercent=validation, testPercent=test))
    shares = np.bincount(found, minlength=3) / 1000
    # Four standard deviations of a binomial share.
    assert shares == pytest.approx([100 - validation - test, validation, test], abs=0.64)


def test_neighbours_are_dealt_independently_of_each_other():
    held = by_position.parts(0, 100_000, blocks.Split(validationPercent=50, testPercent=0)) == by_position.VALIDATION
    for apart in (1, 2, 3, 64, 1000):
        assert np.mean(held[apart:] == held[:-apart]) == pytest.approx(0.5, abs=0.01)


# --- preparation


PREPARATIONS = [
    {},
    {"scaling": "MinMax", "missingNumeric": "Zero", "targetScaling": "MinMax"},
    {"outliers": "ZScore", "missingCategorical": "OwnCategory", "encoding": "Ordinal"},
    {"missingNumeric": "DropRow", "missingCategorical": "DropRow", "encoding": "Hash"},
    {"overrides": [{"columns": ["b"], "outliers": "ZScore", "scaling": "MinMax"}, {"columns": ["word"], "encoding": "Ordinal"}]},
]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
@pytest.mark.parametrize("preparation", PREPARATIONS, ids=str)
def test_the_preparation_is_the_one_that_is_fitted_to_the_same_rows_at_once(streamed, preparation, name):
    config = streamed(name, data={"preparation": preparation})

    dataset = survey.load(config, {})

    seen = list(dataset.training.stream.stored)
    training = {
        column: type(seen[0].features[column])(
            seen[0].features[column].kind,
            np.concatenate([chunk.features[column].values[chunk.of(by_position.TRAINING)] for chunk in seen]),
        )
        for column in seen[0].features
    }
    expected = fit(Table(training), config.data.preparation)
    target = np.concatenate([chunk.target.values[chunk.of(by_position.TRAINING)] for chunk in seen])
    scaling = blocks.Scaling(config.data.preparation.target_scaling or "Standard")
    expected = expected.model_copy(update={"target": fitted(target, scaling)})
    assert alike(dataset.preparation.model_dump(mode="json"), expected.model_dump(mode="json"))
    assert len(target) == dataset.training.rows


def alike(one, other):
    """The same but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(one, float) else one == other


@pytest.mark.parametrize("preparation", PREPARATIONS, ids=str)
def test_the_report_says_of_the_rows_what_it_says_of_them_in_memory(streamed, preparation):
    # All rows in one part, so that both fit to the same.
    config = streamed(data={"preparation": preparation, "split": {"validationPercent": 0, "testPercent": 0}})
    assert survey.load(config, {}).report == load(in_memory(config)).report


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (["x,y", *["1,2"] * 40, "3,"], r"target column y has no value .* in row 41 "),
        (["x,y", *["1,2"] * 40, "inf,2"], r"column x holds infinity in row 41 "),
        (["x,y", *["1,2"] * 40, ",2"], r"column x has no value in row 41 .*missingNumeric is Error"),
        (["x,y", "1,2"], r"of 1 rows, which data.loading Stream deals each by itself, none came to"),
        (["x,y"], "holds no rows"),
        (["z,y", "1,2"], r"data.features: the data has no column x"),
    ],
)
def test_rows_are_refused_in_the_words_of_those_in_memory(streamed, tmp_path, content, words):
    (tmp_path / "bad.csv").write_text("\n".join(content) + "\n")
    data = {"features": ["x"], "preparation": {"missingNumeric": "Error"}}
    with pytest.raises(DataInvalid, match=words):
        survey.load(streamed("bad.csv", table=None, data=data), {})


# --- order


@pytest.fixture
def training(streamed):
    return survey.load(streamed(), {}).training


def sums(batches):
    """One number for each row, by which it is known."""
    return np.concatenate([x @ np.arange(1.0, x.shape[1] + 1) for x, _ in batches])


def test_an_epoch_has_each_row_once_in_another_order_each_time(training):
    stored = sums(training.pieces())
    first, second = sums(together(training, 1)), sums(together(training, 2))
    for epoch in (first, second):
        assert np.allclose(np.sort(epoch), np.sort(stored))
        assert not np.array_equal(epoch, stored)
    assert not np.array_equal(first, second)


def test_rows_come_far_from_where_they_are_stored(training):
    # Stored rows, each known by the place that it is stored at.
    places = {value: place for place, value in enumerate(sums(training.pieces()))}
    came = np.array([places[value] for value in sums(together(training, 1))])
    assert abs(np.corrcoef(came, np.arange(len(came)))[0, 1]) < 0.5
    assert np.mean(np.abs(np.diff(came)) == 1) < 0.05, "neighbours stay neighbours"


def test_the_same_seed_and_epoch_give_the_same_order_after_a_restart(training):
    again = pickle.loads(pickle.dumps(training))  # noqa: S301 - our own
    for (x, y), (x2, y2) in zip(together(training, 3), together(again, 3), strict=True):
        assert np.array_equal(x, x2)
        assert np.array_equal(y, y2)


@pytest.mark.parametrize("lanes", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 64, 5000])
def test_a_batch_has_the_same_rows_whoever_shares_the_lanes(training, lanes, size):
    alone = together(training, 1, size, lanes, range(lanes))
    shared = [together(training, 1, size, lanes, range(rank, lanes, 2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [len(alone)] * 2, "a worker that has fewer batches lets the others wait"
    assert sum(len(y) for _, y in alone) == training.rows
    for whole, *parts in zip(alone, *shared, strict=True):
        assert np.array_equal(np.sort(sums([whole])), np.sort(sums(parts)))
        assert len(whole[1]) in (size, training.rows % size)


def test_a_worker_reads_its_own_share_of_the_chunks(training, monkeypatch):
    read, reader = [], stored.Stored.reader

    def told(self):
        rows = reader(self)
        return lambda chunk: read.append(chunk) or rows(chunk)

    monkeypatch.setattr(stored.Stored, "reader", told)
    together(training, 1, lanes=4, mine=[1])
    assert len(set(read)) == len(read) <= len(training.sizes) / 4 + 2


# --- training


@pytest.mark.parametrize(("batch", "tolerance"), [(50, 0.05), (ROWS, 1e-6)])
def test_a_linear_model_comes_to_what_it_comes_to_in_memory(streamed, tmp_path, batch, tolerance):
    # All rows are trained on, so that both learn from the same; in batches each in an order of its own, which leaves some noise.
    data = {"features": ["a", "b", "flag"], "split": {"validationPercent": 0, "testPercent": 0}}
    # Adam would make steps of a gradient of the intercept that is rounding alone.
    sgd = {"type": "SGD", "learningRate": 0.05}
    training = {"epochs": 40, "batchSize": batch, "optimizer": sgd, "schedule": {"type": "Cosine"}}
    one = streamed(data=data, training=training)
    other = in_memory(one).model_copy(update={"output": one.output.model_copy(update={"uri": f"file://{tmp_path}/other"})})

    (_, streams), (_, holds) = trained(one), trained(other)

    [line], [expected] = streams.coefficients, holds.coefficients
    assert alike(streams.preparation.model_dump(), holds.preparation.model_dump())
    assert line.weights == pytest.approx(expected.weights, abs=tolerance)
    assert line.intercept == pytest.approx(expected.intercept, abs=tolerance)
    assert streams.signature == holds.signature


def test_classes_are_learned_and_counted(streamed):
    data = {"target": "half"}
    training = ADAM | {"loss": {"classWeights": "Balanced"}}
    config = streamed(data=data, training=training, family="LogisticRegression")
    result, manifest = trained(config)
    assert manifest.classes == ["high", "low"]
    assert next(m.value for m in result.metrics if (m.name, m.part) == ("Accuracy", "Test")) > 0.9
    dataset = survey.load(config, {})
    y = np.concatenate([y for _, y in dataset.training.pieces()])
    assert dataset.training.class_counts(2).tolist() == np.bincount(y).tolist()


def test_a_class_that_only_later_parts_hold_is_told(streamed, tmp_path):
    places = np.flatnonzero(by_position.parts(0, 60, blocks.Split()) == by_position.TEST)
    lines = [f"{n},{'rare' if n == places[0] else 'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "c.csv").write_text("\n".join(["x,y", *lines]))
    with pytest.raises(DataInvalid, match=r"class rare of target column y is not in the training part.*data.loading Memory"):
        survey.load(streamed("c.csv", table=None, data={"features": ["x"]}, family="LogisticRegression"), {})


def test_a_training_that_is_interrupted_comes_to_the_same_model(streamed):
    from eagleray_runtime.training import numpy_engine

    config = streamed(training=ADAM | {"epochs": 4, "checkpoint": {"everyEpochs": 1}})
    dataset = survey.load(config, {})
    plan, _ = decide(config, dataset)
    whole, broken = (Store(config.checkpoints.model_copy(update={"uri": f"{config.checkpoints.uri}/{name}"})) for name in "ab")
    undisturbed = numpy_engine.train(plan, dataset, whole, lambda _: None)
    numpy_engine.train(plan, dataset, broken, lambda _: None, halt=lambda epoch, _: epoch == 3)
    resumed = numpy_engine.train(plan, survey.load(config, {}), broken, lambda _: None)
    assert resumed.resumed_from == 2
    for name, values in undisturbed.parameters.items():
        assert np.array_equal(resumed.parameters[name], values)


def test_a_streamed_training_does_not_go_on_from_one_in_memory(streamed):
    config = streamed()
    streams, holds = (
        decide(each, load_)[0]
        for each, load_ in ((config, survey.load(config, {})), (in_memory(config), load(in_memory(config))))
    )
    assert (streams.lanes, holds.lanes) == (1, 0)
    assert streams.fingerprint != holds.fingerprint
