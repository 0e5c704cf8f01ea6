"""The operator under thousands of resources, beside a bare client that makes the same writes under the same limits.

    python -m bench.operator [--resources N] [--rate R] [--quiet SECONDS] [--churn SECONDS]

On a kube-apiserver and etcd of its own, without pods: what is measured is the operator and its requests. Prints one table.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from eagleray_operator.api import crd, names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.kube import event_manifest, events
from eagleray_operator.cluster.limits import RateLimit
from eagleray_operator.cluster.port import KINDS, Ref
from eagleray_operator.controller.controller import now_utc
from eagleray_operator.reconcilers import causes, modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed
from eagleray_operator.settings import ModelStore, Settings
from tests.cluster import ControlPlane
from tests.faults.api import Api, Manifest, Server, collection
from tests.support.operator_process import OperatorProcess

SYSTEM = "eagleray-system"
NAMESPACES = 20
OWN = (names.TRAINING_JOB, names.MODEL_DEPLOYMENT)
KEY = b"a key of the benchmark, long enough"
# With a store, for nobody here would let a deleted claim go.
SETTINGS = Settings(namespace=SYSTEM, model_store=ModelStore(uri="s3://models"))


def resource(kind: str, namespace: str, name: str) -> Manifest:
    spec: Manifest = {"model": {"uri": f"s3://models/{name}"}}
    if kind == names.TRAINING_JOB:
        spec = {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def resources(prefix: str, count: int) -> list[Manifest]:
    """Half jobs, half deployments, spread over the namespaces."""
    return [resource(OWN[n % 2], f"{prefix}-{n % NAMESPACES}", f"r{n}") for n in range(count)]


class Bench:
    """One apiserver, and what was measured on it."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.plane = ControlPlane(folder / "plane")
        self.folder = folder
        self.rate = rate
        key = folder / "key"
        key.write_bytes(KEY)
        burst = max(1, int(2 * rate))
        limits = {"requests_per_second": rate, "requests_burst": burst}
        self.settings = SETTINGS.model_copy(update={"key_path": str(key), **limits})

    async def up(self) -> Api:
        await asyncio.to_thread(self._up)
        return Api(Server(self.plane.kubeconfig))

    def _up(self) -> None:
        self.plane.up()
        self.plane.run_controllers("garbage-collector-controller", "serviceaccount-controller")
        self.plane.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(crd.definitions().values()))
        ours = [f"crd/{plural}.eagleray.io" for plural in ("trainingjobs", "modeldeployments")]
        self.plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *ours)
        self.plane.kubectl("create", "namespace", SYSTEM)

    def operator(self) -> OperatorProcess:
        # Nothing answers there, and nothing is asked: no application runs here.
        return OperatorProcess(self.folder, self.plane.kubeconfig, self.settings.model_dump_json(by_alias=True))


class Convergence:
    """When each resource was made, and when its first status came."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._made: dict[Ref, float] = {}
        self._told: dict[Ref, float] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch as long as it is open; a watch that fails ends the body, which would wait for ever."""
        async with asyncio.TaskGroup() as group:
            watches = []
            for kind in OWN:
                _, version = await self._api.list(kind)
                watches.append(group.create_task(self._follow(kind, version)))
            yield
            for watch in watches:
                watch.cancel()

    async def _follow(self, kind: str, version: str) -> None:
        while True:
            async for type_, found in self._api.watch(kind, version):
                version = found["metadata"]["resourceVersion"]
                if type_ != "BOOKMARK" and (found.get("status") or {}).get("conditions"):
                    self._told.setdefault(Ref.of(found), time.monotonic())
                    self._changed.set()

    async def create(self, manifests: list[Manifest]) -> None:
        """All at once, as fast as 50 connections go."""
        gate = asyncio.Semaphore(50)

        async def one(manifest: Manifest) -> None:
            async with gate:
                self._made[Ref.of(manifest)] = time.monotonic()
                await self._api.create(manifest)

        await asyncio.gather(*(one(manifest) for manifest in manifests))

    async def all_told(self, refs: Iterable[Ref], seconds: float = 900) -> float:
        """Wait for the first status of all; returns the moment of the last."""
        wanted = set(refs)
        async with asyncio.timeout(seconds):
            while missing := wanted - self._told.keys():
                self._changed.clear()
                await self._changed.wait()
                del missing
        return max(self._told[ref] for ref in wanted)

    def times(self, refs: Iterable[Ref]) -> list[float]:
        return sorted(self._told[ref] - self._made[ref] for ref in refs)


async def make_namespaces(api: Api, prefix: str) -> None:
    await asyncio.gather(*(api.make_namespace(f"{prefix}-{n}") for n in range(NAMESPACES)))


async def converge(api: Api, prefix: str, count: int) -> tuple[float, list[float]]:
    """Create that many resources; seconds until all have their status, and the seconds of each."""
    await make_namespaces(api, prefix)
    convergence = Convergence(api)
    manifests = resources(prefix, count)
    refs = [Ref.of(manifest) for manifest in manifests]
    async with convergence.watching():
        began = time.monotonic()
        await convergence.create(manifests)
        end = await convergence.all_told(refs)
    return end - began, convergence.times(refs)


# The yardstick


def writes_of(manifest: Manifest, settings: Settings) -> list[tuple[str, Manifest]]:
    """What the operator writes for a resource, by path: the children to create, the status, and the events after it."""
    arguments = (Observed(url="http://there"), settings, now_utc(), KEY)
    if manifest["kind"] == names.TRAINING_JOB:
        plan = trainingjob.reconcile(TrainingJob.model_validate(manifest), *arguments)
    else:
        plan = modeldeployment.reconcile(ModelDeployment.model_validate(manifest), *arguments)
    for made in plan.ensure:
        for owner in made["metadata"]["ownerReferences"]:
            # The UID of a child is known to the operator only when it is there; any is as long.
            owner.setdefault("uid", manifest["metadata"]["uid"])
    namespace = manifest["metadata"]["namespace"]
    status = f"{collection(manifest['kind'], namespace)}/{manifest['metadata']['name']}/status"
    return [
        *((collection(child["kind"], namespace), child) for child in (*plan.apply, *plan.ensure)),
        (status, {"status": dict(plan.status or {})}),
        *((events(namespace), event_manifest(manifest, event)) for event in plan.events),
    ]


def templates(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """By kind: paths and bodies of the writes for a resource, with its name, namespace and UID to be filled in."""
    found = {}
    for kind in OWN:
        manifest = resource(kind, "NAMESPACE", "NAME")
        manifest["metadata"] |= {"uid": "THE-UID", "generation": 1}
        found[kind] = [(path, json.dumps(body)) for path, body in writes_of(manifest, settings)]
    return found


async def bare(kubeconfig: Path, rate: float, count: int) -> None:
    """The bare client: for each resource that a watch tells of, the operator's writes and nothing else."""
    texts = templates(SETTINGS)
    limit = RateLimit(rate, max(1, int(2 * rate)))
    queue: asyncio.Queue[Manifest] = asyncio.Queue()
    done = asyncio.Semaphore(0)

    async with Api(Server(kubeconfig)) as api:

        async def follow(kind: str) -> None:
            _, version = await api.list(kind)
            print("ready", flush=True)
            # The apiserver ends a watch that is behind.
            while True:
                async for type_, found in api.watch(kind, version):
                    version = found["metadata"]["resourceVersion"]
                    if type_ == "ADDED":
                        queue.put_nowait(found | {"kind": kind})

        async def work() -> None:
            while True:
                found = await queue.get()
                metadata = found["metadata"]
                for path, body in texts[found["kind"]]:
                    await limit.take()
                    words = [
                        text.replace("NAMESPACE", metadata["namespace"])
                        .replace("NAME", metadata["name"])
                        .replace("THE-UID", metadata["uid"])
                        for text in (path, body)
                    ]
                    status = words[0].endswith("/status")
                    kind = "application/merge-patch+json" if status else "application/json"
                    await api.request("PATCH" if status else "POST", words[0], json.loads(words[1]), kind)
                done.release()

        # Whatever goes wrong ends it: a worker that is gone would be waited for.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follow(kind)) for kind in OWN]
            tasks += [group.create_task(work()) for _ in range(SETTINGS.workers)]
            for _ in range(count):
                await done.acquire()
            for task in tasks:
                task.cancel()


# What is shown


def memory_kb(pid: int) -> int:
    return int(next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")).split()[1])


def percentile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def requests(operator: OperatorProcess, *verbs: str) -> Counter[str]:
    """Requests so far by verb and kind, those of the election left out."""
    found: Counter[str] = Counter()
    for line in operator.metrics().splitlines():
        if line.startswith("eagleray_api_requests_total{"):
            labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
            verb, kind = labels["verb"].strip('"'), labels["kind"].strip('"')
            if verb in verbs and kind != "Lease":
                found[f"{verb} {kind}"] += int(float(line.rsplit(" ", 1)[1]))
    return found


WRITES = ("POST", "PUT", "PATCH", "DELETE")


async def measure(count: int, rate: float, quiet: float, churn: float, poisoned: int) -> None:
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        bench = Bench(Path(folder), rate)
        try:
            async with await bench.up() as api:
                await show(bench, api, count, quiet, churn, poisoned)
        finally:
            bench.plane.down()


async def show(bench: Bench, api: Api, count: int, quiet: float, churn: float, poisoned: int) -> None:
    say(f"{count} resources at once, at most {bench.rate:g} requests a second, {os.cpu_count()} CPUs")
    await make_namespaces(api, "bare")
    command = [sys.executable, "-m", "bench.operator", "--bare", str(bench.plane.kubeconfig)]
    command += ["--rate", str(bench.rate), "--resources", str(count)]
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert client.stdout is not None
    for _ in OWN:
        assert await client.stdout.readline()
    convergence = Convergence(api)
    manifests = resources("bare", count)
    async with convergence.watching():
        began = time.monotonic()
        await convergence.create(manifests)
        told = asyncio.create_task(convergence.all_told([Ref.of(manifest) for manifest in manifests]))
        ended = asyncio.create_task(client.wait())
        await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
        assert not ended.done() or ended.result() == 0, "the bare client ended by itself"
        yardstick = await told - began
    assert await ended == 0
    say(f"bare client: all written after {yardstick:.1f} s")
    await remove(api, "bare")

    operator = bench.operator()
    operator.start()
    await asyncio.to_thread(operator.until_leading)
    await asyncio.sleep(5)
    before = memory_kb(operator.process.pid)
    took, times = await converge(api, "many", count)
    wrote = requests(operator, *WRITES)
    say(f"operator: all written after {took:.1f} s, {took / yardstick:.2f} times the bare client's")
    say(f"  time to the first status: median {statistics.median(times):.1f} s, p99 {percentile(times, 0.99):.1f} s")
    say(f"  writes for each resource: {sum(wrote.values()) / count:.2f} ({dict(wrote)})")
    # No KubeRay works here, which each resource says once in its status and by an event: that is not of the quiet time.
    await asyncio.sleep(causes.PATIENCE_SECONDS + 30)
    after = memory_kb(operator.process.pid)
    say(f"  memory: {before / 1024:.0f} MiB, then {after / 1024:.0f} MiB: {(after - before) / count:.1f} KiB for each resource")

    marked = requests(operator, *WRITES, "GET")
    await asyncio.sleep(quiet)
    say(f"{quiet:.0f} quiet seconds: {dict(requests(operator, *WRITES, 'GET') - marked) or 'nothing written, nothing read'}")

    operator.kill()
    await api.delete(Ref("Lease", SYSTEM, "eagleray"))
    began = time.monotonic()
    operator.start()
    await asyncio.to_thread(operator.until_leading)
    leads = time.monotonic() - began
    slowest = 0.0
    while reconciled(operator) < count:
        # A page with thousands of series is work for the operator too: it is not asked for more often than Prometheus would.
        await asyncio.sleep(1)
        slowest = max(slowest, await asyncio.to_thread(operator.seconds_to_answer))
    took = time.monotonic() - began
    wrote = requests(operator, *WRITES)
    say(f"restart with {count}: leads after {leads:.1f} s, all looked at after {took:.1f} s, wrote {dict(wrote) or 'nothing'}")
    say(f"  slowest answer to the kubelet's probe meanwhile {slowest:.2f} s")

    if churn:
        await churned(api, operator, churn)
    await remove(api, "many")
    operator.kill()
    if poisoned:
        await poison(bench, api, poisoned)


def reconciled(operator: OperatorProcess) -> int:
    lines = [line for line in operator.metrics().splitlines() if line.startswith("eagleray_reconcile_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


async def churned(api: Api, operator: OperatorProcess, seconds: float) -> None:
    """Resources come and go for that long, twenty a second; what of them stays in memory?"""
    await make_namespaces(api, "churn")
    sizes = []
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        made = [resource(OWN[n % 2], f"churn-{n % NAMESPACES}", f"c{number}-{n}") for n in range(20)]
        await asyncio.gather(*(api.create(manifest) for manifest in made))
        await asyncio.sleep(1)
        await asyncio.gather(*(api.delete(Ref.of(manifest)) for manifest in made))
        number += 1
        sizes.append(memory_kb(operator.process.pid))
    half = len(sizes) // 2
    grown = statistics.mean(sizes[half:]) - statistics.mean(sizes[: max(1, half)])
    say(f"churn: {number * 20} resources came and went in {seconds:.0f} s; memory {grown / 1024:+.1f} MiB between its halves")


async def poison(bench: Bench, api: Api, count: int) -> None:
    """One resource that can never be reconciled, among many: what does it cost the others?"""
    p99 = {}
    for prefix in ("clean", "poison"):
        operator = bench.operator()
        await api.delete(Ref("Lease", SYSTEM, "eagleray"))
        operator.start()
        await asyncio.to_thread(operator.until_leading)
        if prefix == "poison":
            await api.make_namespace("poisoned")
            foreign = {"ports": [{"port": 80}]}
            metadata = {"name": "bad", "namespace": "poisoned"}
            await api.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": foreign})
            await api.create(resource(names.MODEL_DEPLOYMENT, "poisoned", "bad"))
            await asyncio.sleep(3)
        _, times = await converge(api, prefix, count)
        p99[prefix] = percentile(times, 0.99)
        operator.kill()
        await remove(api, prefix)
    ratio = p99["poison"] / p99["clean"]
    say(f"one poisoned among {count}: the others' p99 {p99['poison']:.2f} s, without it {p99['clean']:.2f} s: {ratio:.2f}")


async def remove(api: Api, prefix: str) -> None:
    """Delete all of a run and wait until the garbage collector has taken what it owned."""
    for kind in OWN:
        for n in range(NAMESPACES):
            await api.request("DELETE", collection(kind, f"{prefix}-{n}"))
    kinds = [kind for kind in KINDS if kind not in (*OWN, "RayCluster", "Pod")]
    while any([await _left(api, kind, prefix) for kind in kinds]):  # noqa: ASYNC110
        await asyncio.sleep(1)


async def _left(api: Api, kind: str, prefix: str) -> bool:
    found, _ = await api.list(kind)
    return any(
        item["metadata"].get("ownerReferences") and item["metadata"]["namespace"].startswith(f"{prefix}-") for item in found
    )


def say(words: str) -> None:
    print(words, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=200.0, help="requests to the apiserver a second")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds in which nothing may be written")
    parser.add_argument("--churn", type=float, default=60.0, help="seconds of resources that come and go")
    parser.add_argument("--poisoned", type=int, default=1000, help="good resources beside the poisoned one; 0 leaves it out")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        asyncio.run(bare(arguments.bare, arguments.rate, arguments.resources))
    else:
        asyncio.run(measure(arguments.resources, arguments.rate, arguments.quiet, arguments.churn, arguments.poisoned))
    return 0


if __name__ == "__main__":
    sys.exit(main())
