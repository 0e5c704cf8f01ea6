"""One real apiserver with its garbage collector, the stand-ins beside it, and operators behind the proxy."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from eagleray_operator.api import crd
from eagleray_operator.cluster.port import Ref
from eagleray_operator.settings import ModelStore, Settings
from eagleray_runtime.contract.names import REPORTS_PATH
from tests.cluster import ControlPlane
from tests.faults.api import Api, Server
from tests.faults.kuberay import KubeRay, Models
from tests.faults.proxy import Proxy
from tests.faults.world import World
from tests.support.operator_process import OperatorProcess

NAMESPACE = "eagleray-system"
CONTROLLERS = ("garbage-collector-controller", "serviceaccount-controller", "namespace-controller")
QUICK = {
    "namespace": NAMESPACE,
    "reports_url": "http://reports/v1/reports",
    "model_store": ModelStore(uri="s3://models"),
    "progress_interval_seconds": 0.2,
    "drain_seconds": 1,
    "sweep_seconds": 5,
    "workers": 400,
    "requests_per_second": 1000,
    "requests_burst": 1000,
}


class Stage:
    """Use it as an async context manager; `start` and `kill` operators on it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="eagleray-faults-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.plane = ControlPlane(self.folder / "plane")
        self.operators: dict[str, OperatorProcess] = {}
        self.restarts = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._bring_up)
            server = Server(self.plane.kubeconfig)
            self.api = await self._stack.enter_async_context(Api(server))
            self.proxy = await self._stack.enter_async_context(Proxy(server))
            self.world = World(self.api)
            self.kuberay = KubeRay(self.api, self.world, self.reports)
            await self.world.start()
            await self.kuberay.start()
            self.models = Models(self.world, self.kuberay)
            self.models_address = await self.models.start()
            await self.api.make_namespace(NAMESPACE)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in list(self.operators):
            self.kill(name)
        for part in ("kuberay", "world", "models"):
            if hasattr(self, part):
                await getattr(self, part).stop()
        await self._stack.aclose()
        await asyncio.to_thread(self.plane.down)
        if self._temporary is not None:
            self._temporary.cleanup()

    def _bring_up(self) -> None:
        self.plane.up()
        self.plane.run_controllers(*CONTROLLERS)
        self.plane.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(crd.definitions().values()))
        ours = [f"crd/{plural}.eagleray.io" for plural in ("trainingjobs", "modeldeployments")]
        self.plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *ours)

    def reports(self) -> list[str]:
        """Addresses of the reports endpoints of the operators that run."""
        return [
            f"http://127.0.0.1:{operator.reports_port}{REPORTS_PATH}"
            for operator in self.operators.values()
            if operator.process.poll() is None
        ]

    async def start(
        self, name: str = "one", *, forget_the_leader: bool = True, leading: bool = True, **settings: Any
    ) -> OperatorProcess:
        """Start an operator; without `forget_the_leader` it waits for the lease of whoever held it."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        key = folder / "key"
        key.write_text("a key of the fault tests, long enough")
        kubeconfig = folder / "kubeconfig"
        content = json.loads(self.plane.kubeconfig.read_text())
        content["clusters"][0]["cluster"] = {"server": await self.proxy.address(name)}
        kubeconfig.write_text(json.dumps(content))
        made = Settings(key_path=str(key), **(QUICK | settings))
        operator = OperatorProcess(folder, kubeconfig, made.model_dump_json(by_alias=True), models=self.models_address)
        if forget_the_leader:
            await self.api.delete(Ref("Lease", NAMESPACE, "eagleray"))
        operator.start()
        self.operators[name] = operator
        if leading:
            await asyncio.to_thread(operator.until_leading)
        return operator

    @asynccontextmanager
    async def kubelet(self, name: str = "one") -> AsyncIterator[None]:
        """Start the operator again whenever it ends, as one that cannot renew its lease does; `restarts` counts."""
        self.restarts = 0
        keeping = asyncio.create_task(self._keep_running(self.operators[name]))
        try:
            yield
        finally:
            keeping.cancel()

    async def _keep_running(self, operator: OperatorProcess) -> None:
        while True:
            await asyncio.sleep(0.2)
            if operator.process.poll() is not None:
                self.restarts += 1
                operator.start()

    def kill(self, name: str = "one") -> None:
        """SIGKILL: nothing is cleaned up."""
        self.operators.pop(name).kill()
