"""A sample of the sweep: every fault class on every scenario."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster import UnavailableError
from tests.faults.classes import SAMPLE, Context
from tests.faults.conftest import TABLES
from tests.faults.stage import Stage
from tests.faults.sweep import Sweep, table

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="module")]

SEED = 1

QUICK = ("T1 killed at some writes", "T3 to T7 watches", "T8 bad jobs")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def context() -> AsyncIterator[Context]:
    try:
        async with Stage() as stage:
            sweep = Sweep(stage)
            await sweep.refer()
            yield Context(stage, sweep, SEED, sample=True)
            TABLES.append(table(sweep.runs, sweep.references))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SAMPLE])
async def test_every_end_is_that_of_the_undisturbed_run(context: Context, name: str) -> None:
    before = len(context.sweep.runs)
    await SAMPLE[name](name, context)
    runs = context.sweep.runs[before:]
    assert runs
    wrong = [f"{run.scenario}: {run.problem}" for run in runs if run.problem is not None]
    assert not wrong, "\n".join(wrong)
