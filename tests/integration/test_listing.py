"""Listings of a real apiserver."""

import pytest
from kubernetes.aio.config import kube_config

from eagleray_operator.cluster import kube
from eagleray_operator.cluster.kube import KubeCluster
from tests.integration.conftest import Apiserver
from tests.integration.test_operator import manifest


async def test_a_listing_in_several_pages_is_whole(apiserver: Apiserver, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"shop-{number}" for number in range(5)}
    apiserver.apply(
        *(manifest("ModelDeployment", name, model={"uri": "s3://models/shop"}) for name in names), namespace=namespace
    )
    monkeypatch.setattr(kube, "PAGE_OBJECTS", 2)
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(apiserver.plane.kubeconfig))
    cluster = KubeCluster()
    await cluster.connect()
    try:
        listed = await cluster.list_all("ModelDeployment")
    finally:
        await cluster.close()
    found = [item["metadata"]["name"] for item in listed if item["metadata"]["namespace"] == namespace]
    assert sorted(found) == sorted(names)
    assert {item["kind"] for item in listed} == {"ModelDeployment"}
