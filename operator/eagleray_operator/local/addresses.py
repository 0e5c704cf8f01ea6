"""Where deployments answer in local mode, and whether they do."""

import json

import aiohttp

from eagleray_operator.api import names
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import ProbeResult, Ref
from eagleray_operator.local.ray_api import main_prefix, revision_prefix

PROBE_TIMEOUT_SECONDS = 3.0


class LocalAddresses:
    """One port for all, a path for each deployment."""

    def __init__(self, port: int, cluster: MemoryCluster) -> None:
        """`port` is that of Ray Serve."""
        self._base = f"http://127.0.0.1:{port}"
        self._cluster = cluster

    def url(self, namespace: str, deployment: str) -> str:
        """Address of a deployment."""
        return f"{self._base}{main_prefix(namespace, deployment)}"

    async def probe(self, namespace: str, deployment: str, revision: str, *, active: bool) -> ProbeResult:
        """Ask the model whether it is ready and which it is, and whether it is the revision that was meant."""
        service = await self._cluster.get(Ref("Service", namespace, deployment))
        selected = service is not None and service["spec"]["selector"].get(names.LABEL_REVISION) == revision
        if active and not selected:
            return ProbeResult(ready=False, message=f"the Service does not select {revision} yet")
        prefix = main_prefix(namespace, deployment) if selected else revision_prefix(namespace, revision)
        model = f"{self._base}{prefix}/v2/models/{deployment}"
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_SECONDS)) as session:
                async with session.get(f"{model}/ready") as answer:
                    if answer.status != 200:
                        return ProbeResult(ready=False, message=f"HTTP {answer.status}: {(await answer.text())[:200]}")
                async with session.get(model) as answer:
                    answer.raise_for_status()
                    metadata = json.loads(await answer.text())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return ProbeResult(ready=False, message=f"{type(error).__name__}: {error}"[:200])
        if revision not in metadata.get("versions", [revision]):
            return ProbeResult(ready=False, message=f"{metadata['versions'][0]} still answers")
        parameters = metadata.get("parameters") or {}
        return ProbeResult(ready=True, digest=parameters.get("digest"), engine=parameters.get("engine"))
