"""The election: one leads, renews by one write, and has lost the Lease before another may take it."""

import copy
from typing import Any

import pytest

from eagleray_operator.cluster.lease import DURATION_SECONDS, RENEW_DEADLINE_SECONDS, Lease
from eagleray_operator.cluster.port import ClusterError


class Apiserver:
    """Holds one Lease; a write must name the version that is there."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.away = False

    async def request(self, method: str, path: str, kind: str, body: Any = None, content_type: str = "") -> Any:
        self.asked.append(method)
        if self.away:
            raise ClusterError(0, "no answer")
        if method == "POST" and self.lease is None:
            self.lease = copy.deepcopy(body)
            self.lease["metadata"]["resourceVersion"] = "1"
        elif self.lease is None:
            raise ClusterError(404, "there is none")
        elif method in ("POST", "PUT"):
            version = self.lease["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != version:
                raise ClusterError(409, "it is another by now")
            self.lease = copy.deepcopy(body)
            self.lease["metadata"]["resourceVersion"] = str(int(version) + 1)
        return copy.deepcopy(self.lease)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def apiserver() -> Apiserver:
    return Apiserver()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def replica(apiserver: Apiserver, clock: Clock, name: str) -> Lease:
    return Lease(apiserver, "eagleray-system", "eagleray", name, clock)


async def test_a_lease_that_nobody_holds_is_taken_and_renewed_by_one_write_each(apiserver: Apiserver, clock: Clock):
    one = replica(apiserver, clock, "one")
    await one.acquire()
    assert apiserver.asked == ["GET", "POST"]
    for _ in range(3):
        clock.now += 2
        assert await one._try()
    assert apiserver.asked[2:] == ["PUT", "PUT", "PUT"]
    assert one.held
    assert apiserver.lease is not None
    assert apiserver.lease["spec"]["holderIdentity"] == "one"
    assert apiserver.lease["spec"]["leaseTransitions"] == 0


async def test_another_takes_it_when_it_has_not_changed_for_its_duration_and_not_before(apiserver: Apiserver, clock: Clock):
    one, two = replica(apiserver, clock, "one"), replica(apiserver, clock, "two")
    await one.acquire()
    assert not await two._try()
    clock.now += RENEW_DEADLINE_SECONDS
    assert not one.held
    assert not await two._try()
    clock.now += DURATION_SECONDS - RENEW_DEADLINE_SECONDS + 0.1
    assert await two._try()
    assert two.held
    assert apiserver.lease is not None
    assert apiserver.lease["spec"]["leaseTransitions"] == 1
    assert not await one._try(), "the version that it wrote is gone"
    assert apiserver.lease["spec"]["holderIdentity"] == "two"


async def test_one_who_gets_no_answer_in_time_has_lost_it_and_looks_before_it_writes_again(apiserver: Apiserver, clock: Clock):
    one = replica(apiserver, clock, "one")
    await one.acquire()
    apiserver.away = True
    clock.now += 2
    assert not await one._try()
    assert one.held
    clock.now += RENEW_DEADLINE_SECONDS - 2
    assert not one.held
    apiserver.away, apiserver.asked = False, []
    assert await one._try()
    assert apiserver.asked == ["GET", "PUT"]


async def test_a_lease_that_somebody_deleted_is_made_again(apiserver: Apiserver, clock: Clock):
    one = replica(apiserver, clock, "one")
    await one.acquire()
    apiserver.lease = None
    assert await one._try()
    assert apiserver.lease is not None


async def test_one_that_is_given_back_is_taken_at_once(apiserver: Apiserver, clock: Clock):
    one, two = replica(apiserver, clock, "one"), replica(apiserver, clock, "two")
    await one.acquire()
    await one.release()
    assert not one.held
    assert await two._try()
