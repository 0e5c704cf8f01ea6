"""A set that is larger than the memory that training may take: streamed it trains, held in memory it does not."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.storage import Store
from tests.support.limited import MIB, trained

pytestmark = pytest.mark.torch

ROWS, COLUMNS, ROW_GROUP = 480_000, 40, 5_000
LIMIT = 112
"""MiB that a training may take beyond its libraries; the rows alone are 146 MiB."""


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
            "batchSize": 512,
            "optimizer": {"type": "SGD", "learningRate": 0.1},
            "schedule": {"type": "Cosine"},
        }
        data = {"uri": uri, "sample": None, "target": "y", "loading": loading, "split": split}
        output = {"uri": f"file://{tmp_path}/{loading}"}
        return job(data=data, training=training, engine=engine, dataLocation={"uri": uri}, output=output)

    return make


@pytest.mark.parametrize("engine", ["NumPy", "Torch"])
def test_rows_that_are_more_than_the_memory_come_to_the_model_that_all_of_them_in_memory_come_to(large, engine):
    streamed, held = large("Stream", engine), large("Memory", engine)

    refused = trained(held, engine, LIMIT)
    assert refused.returncode != 0
    assert "MemoryError" in refused.stderr

    within = trained(streamed, engine, LIMIT)
    assert within.returncode == 0, within.stderr

    without_limit = trained(held, engine, 0)
    assert without_limit.returncode == 0, without_limit.stderr
    one, other = (read_bundle(Store(config.output)).manifest for config in (streamed, held))
    assert one.data.rows == other.data.rows == ROWS
    for column, same in zip(one.preparation.columns, other.preparation.columns, strict=True):
        assert (column.fill, column.offset, column.scale) == pytest.approx((same.fill, same.offset, same.scale), rel=1e-9)
    assert one.preparation.target.scale == pytest.approx(other.preparation.target.scale, rel=1e-9)
    [line], [expected] = one.coefficients, other.coefficients
    assert line.weights == pytest.approx(expected.weights, abs=1e-4)
    assert line.intercept == pytest.approx(expected.intercept, abs=1e-3)
