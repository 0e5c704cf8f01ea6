"""A set that is larger than the memory that training may take: streamed it trains, held in memory it does not."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.storage import Store
from tests.support.limited import MIB, trained

pytestmark = pytest.mark.torch

ROWS, COLUMNS, ROW_GROUP = 400_000, 40, 5_000
LIMIT = 112
"""MiB that a training may take beyond its libraries; the rows alone are 122 MiB."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of numbers, and of their sum by weights from -1 to 1."""
    path = tmp_path_factory.mktemp("large") / "rows.parquet"
    random, weights = np.random.default_rng(3), np.linspace(-1, 1, COLUMNS)
    schema = pa.schema([(f"x{number}", pa.float64()) for number in range(COLUMNS)] + [("y", pa.float64())])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for _ in range(ROWS // ROW_GROUP):
            x = random.normal(3, 2, (ROW_GROUP, COLUMNS))
            file.write_table(pa.table([*x.T, x @ weights + 1], schema=schema))
    assert path.stat().st_size > LIMIT * MIB
    return path


@pytest.fixture
def large(job, rows, tmp_path):
    """Configuration of a job that learns the rows of the file, all of them."""

    def make(loading, engine):
        uri = f"file://{rows}"
        split = {"validationPercent": 0, "testPercent": 0}
        training = {
            "epochs": 2,
            "batchSize": 2048,
            "optimizer": {"type": "SGD", "learningRate": 0.1},
            "schedule": {"type": "Cosine"},
        }
        data = {"uri": uri, "sample": None, "target": "y", "loading": loading, "split": split}
        output = {"uri": f"file://{tmp_path}/{loading}-by-{engine}"}
        return job(data=data, training=training, engine=engine, dataLocation={"uri": uri}, output=output)

    return make


@pytest.mark.slow
def test_rows_that_are_more_than_the_memory_come_to_the_model_that_all_of_them_in_memory_come_to(large):
    held = large("Memory", "NumPy")
    refused = trained(held, LIMIT)
    assert refused.returncode != 0
    assert "MemoryError" in refused.stderr
    whole = trained(held)
    assert whole.returncode == 0, whole.stderr
    expected = read_bundle(Store(held.output)).manifest

    for engine in ("NumPy", "Torch"):
        streamed = large("Stream", engine)
        within = trained(streamed, LIMIT)
        assert within.returncode == 0, within.stderr
        found = read_bundle(Store(streamed.output)).manifest
        assert found.data.rows == expected.data.rows == ROWS
        for one, other in zip(found.preparation.columns, expected.preparation.columns, strict=True):
            assert (one.fill, one.offset, one.scale) == pytest.approx((other.fill, other.offset, other.scale), rel=1e-9)
        assert found.preparation.target.scale == pytest.approx(expected.preparation.target.scale, rel=1e-9)
        [line], [same] = found.coefficients, expected.coefficients
        assert line.weights == pytest.approx(same.weights, abs=1e-4)
        assert line.intercept == pytest.approx(same.intercept, abs=1e-3)
