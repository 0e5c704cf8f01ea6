"""Deployments at their Services."""

import json

import aiohttp

from eagleray_operator.cluster.port import ProbeResult

PROBE_TIMEOUT_SECONDS = 3.0
SERVE_PORT = 8000


class ServiceAddresses:
    """Asks deployments through the cluster's own names and addresses."""

    def __init__(self, domain: str = "svc.cluster.local") -> None:
        """`domain` follows the namespace in a Service's name."""
        self._domain = domain

    def url(self, namespace: str, deployment: str) -> str:
        """Address of a deployment inside the cluster."""
        return f"http://{deployment}.{namespace}.{self._domain}"

    async def probe(self, namespace: str, deployment: str, revision: str, *, active: bool) -> ProbeResult:
        """Ask the model whether it is ready, and which it is; a revision without traffic by KubeRay's own Service of it."""
        past = f"http://{revision}-serve-svc.{namespace}.{self._domain}:{SERVE_PORT}"
        base = self.url(namespace, deployment) if active else past
        # A new connection each time: kept ones stay on the pods of the revision before.
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                async with session.get(f"{base}/v2/models/{deployment}/ready") as answer:
                    if answer.status != 200:
                        words = (await answer.text())[:200]
                        return ProbeResult(ready=False, message=f"HTTP {answer.status}: {words}")
                async with session.get(f"{base}/v2/models/{deployment}") as answer:
                    answer.raise_for_status()
                    parameters = json.loads(await answer.text()).get("parameters") or {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return ProbeResult(ready=False, message=f"{type(error).__name__}: {error}"[:200])
        return ProbeResult(ready=True, digest=parameters.get("digest"), engine=parameters.get("engine"))
