"""The reports endpoint: what it answers before anything is judged, and that it counts what it answers."""

import gzip

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from eagleray_operator import reports
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.metrics import Metrics
from eagleray_runtime.contract.names import REPORTS_PATH
from eagleray_runtime.contract.reports import REPORT
from tests.support.fake_kuberay import Running
from tests.support.makers import progress

TOLD = REPORT.dump_json(progress())
BEARER = {"Authorization": "Bearer token"}
TYPED = {"Content-Type": "application/json"}


async def answered(
    body: bytes, headers: dict[str, str], *, leading: bool = True, judged: int = 200
) -> tuple[int, dict[str, float]]:
    """Status of the answer, and what was counted by type and status."""
    registry = CollectorRegistry()

    async def judge(_token: str, _report: object) -> int:
        return judged

    async with Running(MemoryCluster()) as running:
        metrics = Metrics(registry, version="0.1.0")
        app = reports.app(running.controller, judge, leading=lambda: leading, metrics=metrics)
        async with TestClient(TestServer(app)) as client:
            response = await client.post(REPORTS_PATH, data=body, headers=TYPED | headers)
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == "eagleray_reports_total"]
    return response.status, {f"{sample.labels['type']} {sample.labels['code']}": sample.value for sample in samples}


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (b"{}", BEARER, 422, "unknown"),
        (TOLD.replace(b'"metrics":{}', b'"metrics":{"Loss":Infinity}'), BEARER, 422, "unknown"),
        (TOLD.replace(b'"percent":15.0', b'"percent":1e999'), BEARER, 422, "unknown"),
        (b"x" * (reports.MAX_REPORT_BYTES + 1), BEARER, 413, "unknown"),
        (b"no gzip", BEARER | {"Content-Encoding": "gzip"}, 422, "unknown"),
        (gzip.compress(TOLD)[:-20], BEARER | {"Content-Encoding": "gzip"}, 422, "unknown"),
        (TOLD, {}, 401, "progress"),
        (TOLD, {"Authorization": "Basic token"}, 401, "progress"),
    ],
    ids=[
        "no report",
        "an infinite loss",
        "a number that is too large",
        "too large",
        "no gzip",
        "cut gzip",
        "no token",
        "another scheme",
    ],
)
async def test_each_report_is_answered_and_counted(body: bytes, headers: dict[str, str], status: int, kind: str) -> None:
    assert await answered(body, headers) == (status, {f"{kind} {status}": 1})


async def test_a_replica_that_does_not_lead_and_a_token_that_does_not_hold_are_counted_too() -> None:
    assert await answered(TOLD, BEARER, leading=False) == (503, {"unknown 503": 1})
    assert await answered(TOLD, BEARER, judged=403) == (403, {"progress 403": 1})
