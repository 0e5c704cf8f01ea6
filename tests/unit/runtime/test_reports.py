"""The report client against a small server on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eagleray_runtime.contract.reports import FailureReport, ProgressReport, Stage
from eagleray_runtime.reports import LEADER_TRIES, Reporter, Stopped, UndeliveredError


class Operator:
    """Answers with the statuses it is told, then with 200, and keeps what it was sent."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.reports: list[dict] = []
        self.tokens: list[str | None] = []
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.gate.wait(10)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.reports.append(body)
                outer.tokens.append(self.headers["Authorization"])
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.end_headers()
                self.wfile.write(b"words of the operator")

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/reports"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def operator() -> Iterator[Operator]:
    server = Operator()
    yield server
    server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reporter(operator, clock) -> Iterator[Reporter]:
    client = Reporter(operator.url, {}, clock, clock.pause)
    yield client
    client.close()


RESOURCE = {"kind": "TrainingJob", "namespace": "team", "name": "job", "uid": "u", "generation": 1}


def progress(epoch=0, stage=Stage.TRAINING):
    return ProgressReport(resource=RESOURCE, attempt=1, stage=stage, epoch=epoch)


FAILURE = FailureReport(resource=RESOURCE, attempt=1, reason="DataInvalid", message="no rows")


def test_progress_is_sent_at_most_every_two_seconds(reporter, operator, clock):
    for epoch in range(10):
        clock.now = epoch * 0.5
        reporter.progress(progress(epoch))
        reporter.flush()
    assert [report["epoch"] for report in operator.reports] == [0, 4, 8]


def test_a_report_that_comes_too_early_is_sent_as_soon_as_it_is_due(reporter, operator, clock):
    reporter.progress(progress(0))
    reporter.flush()
    clock.now = 1.99
    reporter.progress(progress(1))
    reporter.flush()
    assert [report["epoch"] for report in operator.reports] == [0]
    clock.now = 2.0
    reporter.flush()
    assert [report["epoch"] for report in operator.reports] == [0, 1]
    clock.now = 3.99
    assert not reporter.due(Stage.TRAINING)


def test_a_new_stage_is_told_at_once(reporter, operator):
    reporter.progress(progress(stage=Stage.PREPARING))
    reporter.flush()
    reporter.progress(progress(stage=Stage.TRAINING))
    reporter.flush()
    assert [report["stage"] for report in operator.reports] == ["Preparing", "Training"]


def test_of_the_reports_that_pile_up_the_newest_is_sent(reporter, operator, clock):
    operator.gate.clear()
    for epoch in range(5):
        clock.now = epoch * 10.0
        reporter.progress(progress(epoch))  # returns at once although the operator does not answer
    operator.gate.set()
    reporter.flush()
    assert operator.reports[-1]["epoch"] == 4
    assert len(operator.reports) <= 2


def test_a_failure_is_sent_until_it_is_accepted(reporter, operator, clock):
    operator.statuses = [503, 401, 500]
    reporter.deliver(FAILURE)
    assert [report["message"] for report in operator.reports] == ["no rows"] * 4
    assert clock.pauses == [0.5, 1.0, 2.0]


def test_delivery_is_given_up_after_ten_minutes(clock):
    reporter = Reporter("http://127.0.0.1:9/v1/reports", {}, clock, clock.pause)
    with pytest.raises(UndeliveredError, match=r"did not accept the report in 600 s: ConnectionRefusedError"):
        reporter.deliver(FAILURE)
    assert 580 < clock.now <= 600


@pytest.mark.parametrize("status", [404, 409])
def test_nobody_waiting_ends_the_delivery(reporter, operator, status):
    operator.statuses = [status]
    with pytest.raises(Stopped, match="words of the operator"):
        reporter.deliver(FAILURE)
    assert len(operator.reports) == 1


def test_a_newer_attempt_stops_this_one_at_its_next_progress(reporter, operator, clock):
    operator.statuses = [409]
    reporter.progress(progress(1))
    reporter.flush()
    with pytest.raises(Stopped, match="409"):
        reporter.progress(progress(2))


def test_progress_that_met_a_replica_that_does_not_lead_is_sent_to_another(reporter, operator):
    operator.statuses = [503, 503]
    reporter.progress(progress(1))
    reporter.flush()
    assert [report["epoch"] for report in operator.reports] == [1, 1, 1]


def test_progress_goes_on_while_nobody_leads(reporter, operator, clock):
    operator.statuses = [503] * LEADER_TRIES
    for epoch in range(2):
        clock.now = epoch * 2.0
        reporter.progress(progress(epoch))
        reporter.flush()
    assert [report["epoch"] for report in operator.reports] == [0] * LEADER_TRIES + [1]


def test_progress_goes_on_while_the_operator_is_away(reporter, operator, clock):
    operator.statuses = [500, 500]
    for epoch in range(3):
        clock.now = epoch * 2.0
        reporter.progress(progress(epoch))
        reporter.flush()
    assert len(operator.reports) == 3


def test_a_malformed_report_is_not_repeated(reporter, operator):
    operator.statuses = [422]
    with pytest.raises(UndeliveredError, match="refused the report"):
        reporter.deliver(FAILURE)
    assert len(operator.reports) == 1


def test_no_progress_arrives_after_a_result(reporter, operator):
    reporter.progress(progress(1))
    reporter.deliver(FAILURE)
    assert operator.reports[-1]["type"] == "failure"


def test_the_token_is_read_again_for_each_report(operator, tmp_path, clock):
    token = tmp_path / "token"
    reporter = Reporter(operator.url, {"EAGLERAY_REPORT_TOKEN_PATH": str(token)}, clock, clock.pause)
    for value in ("first", "second"):
        token.write_text(value + "\n")
        reporter.deliver(FAILURE)
    assert operator.tokens == ["Bearer first", "Bearer second"]


def test_without_a_url_nothing_is_sent():
    reporter = Reporter(None, {})
    assert not reporter.due(Stage.TRAINING)
    reporter.progress(progress())
    reporter.deliver(FAILURE)
