"""Everything that is in the cluster, as the onlooker sees it: live objects, what was ever made, and a dump to compare."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Ref
from tests.faults.api import Api, Manifest

OWN = ("TrainingJob", "ModelDeployment")
MADE = ("ConfigMap", "Secret", "Service", "PersistentVolumeClaim", "NetworkPolicy", "RayJob", "RayService")
COUNTED = ("PersistentVolumeClaim", "RayJob", "RayService")
"""What must not be made once more than undisturbed: it costs pods or holds a model."""

KUBERAYS = ("RayCluster", "Pod")
WATCHED = (*OWN, *MADE, *KUBERAYS)

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
HEAD_WENT = re.compile(r"The head pod \S+ was deleted\.|The head pod is gone\. The next attempt goes on from the checkpoint\.")
"""Whether it was seen going, or only that it is gone, is chance."""

ROUNDING_SECONDS = 0.1

FROM_THE_SERVER = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "selfLink",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "finalizers",
    # A hash of what differs from namespace to namespace.
    names.ANNOTATION_TEMPLATE,
}
Listener = Callable[[str, Manifest], None]


class World:
    """Watches all kinds."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.patience = 480.0
        """Seconds; a batch may stand frozen for 90 of them, and a busy machine takes more than twice as many for the rest."""
        self.objects: dict[Ref, Manifest] = {}
        self.made: dict[Ref, set[str]] = defaultdict(set)
        """UIDs of all objects that ever had an address."""
        self._refs: dict[str, Ref] = {}
        self._ours: set[Ref] = set()
        self._listeners: list[Listener] = []
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._last: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return when everything is listed."""
        for kind in WATCHED:
            found, version = await self._api.list(kind)
            for manifest in found:
                self._take("ADDED", manifest)
            self._tasks.append(asyncio.create_task(self._follow(kind, version)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return self.objects.get(Ref(kind, namespace, name))

    def all(self, kind: str, namespace: str) -> list[Manifest]:
        return [found for ref, found in self.objects.items() if ref.kind == kind and ref.namespace == namespace]

    def in_namespace(self, namespace: str) -> list[Manifest]:
        """Objects that belong to our resources, and these."""
        return [
            found
            for ref, found in sorted(self.objects.items())
            if ref.namespace == namespace and (ref.kind in OWN or found["metadata"].get("ownerReferences"))
        ]

    async def until(self, namespace: str, holds: Callable[[], Any], what: str) -> Any:
        """Wait for at most `patience` seconds until something about the objects of a namespace is true."""
        seconds = self.patience
        try:
            async with asyncio.timeout(seconds):
                while not (found := _quietly(holds)):
                    event = self._changed[namespace] = asyncio.Event()
                    await event.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"{namespace}: not within {seconds:.0f} s: {what}\n{self.told(namespace)}") from None

    def still_for(self, namespace: str) -> float:
        """Seconds since anything changed in the namespace."""
        return asyncio.get_running_loop().time() - self._last.get(namespace, 0.0)

    def told(self, namespace: str) -> str:
        """Conditions of the resources of a namespace, for the words of a failure."""
        lines = []
        for found in self.in_namespace(namespace):
            if found["kind"] in OWN:
                conditions = (found.get("status") or {}).get("conditions") or []
                words = "; ".join(f"{c['type']}={c['status']}/{c['reason']} {c.get('message', '')[:150]}" for c in conditions)
                lines.append(f"  {found['kind']} {found['metadata']['name']}: {words}")
            elif found["kind"] in ("RayJob", "RayService"):
                lines.append(f"  {found['kind']} {found['metadata']['name']}: {json.dumps(found.get('status', {}))[:200]}")
        return "\n".join(lines)

    def dump(self, namespace: str) -> dict[str, Any]:
        """What is in a namespace but what differs from run to run, and how often each object was made."""
        found = {}
        clusters = {ref.name for ref in self.made if ref.kind == "RayCluster" and ref.namespace == namespace}
        for manifest in self.in_namespace(namespace):
            text = json.dumps(_lean(_summed(manifest)))
            found[f"{manifest['kind']} {manifest['metadata']['name']}"] = text
        for ref, uids in self.made.items():
            if ref.namespace == namespace and ref.kind in COUNTED and ref in self._ours:
                found[f"times that {ref.kind} {ref.name} was made"] = str(len(uids))
        result: dict[str, Any] = {}
        for key, text in found.items():
            result[self._plain(key, namespace, clusters)] = json.loads(self._plain(text, namespace, clusters))
        return result

    def _plain(self, text: str, namespace: str, clusters: set[str]) -> str:
        text = UUID.sub(lambda match: self._name_of(match[0]), text)
        for ref in [ref for ref in self.made if ref.namespace == namespace and ref.kind in OWN]:
            for uid in self.made[ref]:
                # The folder of a model is called by the beginning of its job's UID.
                text = text.replace(uid[:8], "<uid>")
        for cluster in sorted(clusters, key=len, reverse=True):
            text = text.replace(cluster, cluster.rsplit("-", 1)[0] + "-cluster")
        text = MOMENT.sub("a moment", text)
        text = HEAD_WENT.sub("the head went", text)
        return text.replace(namespace, "the namespace")

    def _name_of(self, uid: str) -> str:
        ref = self._refs.get(uid)
        return f"<uid of {ref.kind} {ref.name}>" if ref else "<uid>"

    async def _follow(self, kind: str, version: str) -> None:
        while True:
            try:
                async for type_, manifest in self._api.watch(kind, version):
                    if type_ == "ERROR":
                        raise aiohttp.ClientError(str(manifest))
                    version = manifest["metadata"]["resourceVersion"]
                    if type_ != "BOOKMARK":
                        self._take(type_, manifest)
            except aiohttp.ClientError:
                # The onlooker's own connection is no part of any test.
                await asyncio.sleep(0.2)

    def _take(self, type_: str, manifest: Manifest) -> None:
        ref = Ref.of(manifest)
        if type_ == "DELETED":
            self.objects.pop(ref, None)
        else:
            self.objects[ref] = manifest
            self.made[ref].add(manifest["metadata"]["uid"])
            self._refs[manifest["metadata"]["uid"]] = ref
            if manifest["metadata"].get("ownerReferences"):
                self._ours.add(ref)
        self._last[ref.namespace] = asyncio.get_running_loop().time()
        for listener in self._listeners:
            listener(type_, manifest)
        if (event := self._changed.pop(ref.namespace, None)) is not None:
            event.set()


def _quietly(holds: Callable[[], Any]) -> Any:
    try:
        return holds()
    except (KeyError, IndexError, StopIteration, TypeError):
        # Not there yet.
        return None


def _summed(manifest: Manifest) -> Manifest:
    """With the seconds that a job tells replaced by whether they add up: what they are is chance."""
    status = manifest.get("status") or {}
    if not (timing := status.get("timing")):
        return manifest
    created, until = (datetime.fromisoformat(text) for text in (manifest["metadata"]["creationTimestamp"], timing["untilTime"]))
    missing = (until - created).total_seconds() - sum(value for key, value in timing.items() if key.endswith("Seconds"))
    verdict = "adds up" if abs(missing) < ROUNDING_SECONDS else f"{missing:.3f} s are missing"
    return manifest | {"status": status | {"timing": verdict}}


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _lean(item) for key, item in value.items() if key not in FROM_THE_SERVER}
        if value.get("kind") == "Secret":
            kept.pop("data", None)
        if value.get("kind") == "ConfigMap":
            kept["data"] = {key: json.loads(text) for key, text in value["data"].items()}
        return kept
    if isinstance(value, list):
        return [_lean(item) for item in value]
    return value


def difference(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Paths at which two dumps differ, with both values."""
    found: list[str] = []

    def compare(path: str, left: Any, right: Any) -> None:
        if isinstance(left, dict) and isinstance(right, dict):
            for key in sorted(left.keys() | right.keys()):
                compare(f"{path}.{key}" if path else key, left.get(key, "(none)"), right.get(key, "(none)"))
        elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            for index, (a, b) in enumerate(zip(left, right, strict=True)):
                compare(f"{path}[{index}]", a, b)
        elif left != right:
            found.append(f"{path}: {str(left)[:300]} | {str(right)[:300]}")

    compare("", one, other)
    return found
