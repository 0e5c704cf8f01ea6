"""Who does not lead any more writes nothing, also with a request that was on its way."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from kubernetes.aio.config import kube_config

from eagleray_operator.cluster.kube import KubeCluster
from eagleray_operator.cluster.port import ClusterError

POD = "/api/v1/namespaces/team/pods/one"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/team/leases/eagleray"


class Replica:
    """A client of an apiserver that remembers what it was asked."""

    def __init__(self) -> None:
        self.leads = True
        self.asked: list[str] = []
        self.cluster = KubeCluster(may_write=lambda: self.leads)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
        return web.json_response({})


@pytest_asyncio.fixture
async def replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replica]:
    made = Replica()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    content = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    await made.cluster.connect()
    yield made
    await made.cluster.close()
    await runner.cleanup()


async def test_a_write_that_waits_for_its_connection_while_the_lease_is_lost_is_not_sent(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
):
    connect = aiohttp.TCPConnector._create_connection

    async def stopped(*arguments: Any) -> Any:
        made = await connect(*arguments)
        replica.leads = False
        return made

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", stopped)
    with pytest.raises(ClusterError, match="nothing is written"):
        await replica.cluster.request("POST", POD, "Pod", {})
    assert replica.asked == []


async def test_without_the_lease_it_reads_and_stands_for_election_and_writes_nothing_else(replica: Replica):
    await replica.cluster.request("POST", POD, "Pod", {})
    replica.leads = False
    await replica.cluster.request("GET", POD, "Pod")
    await replica.cluster.request("PUT", LEASE, "Lease", {})
    with pytest.raises(ClusterError, match="nothing is written"):
        await replica.cluster.request("DELETE", POD, "Pod", {})
    assert replica.asked == ["POST", "GET", "PUT"]
