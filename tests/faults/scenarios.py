"""What users do, and what must have come of it at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from eagleray_operator.cluster.port import Ref
from tests.faults.api import Api, ApiError, Manifest
from tests.faults.kuberay import KubeRay, Script
from tests.faults.world import World
from tests.support.makers import condition


@dataclass
class Play:
    """One scenario in a namespace of its own."""

    namespace: str
    api: Api
    world: World
    kuberay: KubeRay

    async def apply(self, kind: str, name: str, **spec: Any) -> Manifest:
        head = {"apiVersion": "eagleray.io/v1alpha1", "kind": kind}
        return await self.api.create(head | {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec})

    async def job(self, name: str = "line", **spec: Any) -> Manifest:
        return await self.apply("TrainingJob", name, **{"data": {"sample": "LinearRegression"}, "model": LINEAR} | spec)

    async def deployment(self, name: str = "shop", uri: str = "s3://models/shop", **spec: Any) -> Manifest:
        return await self.apply("ModelDeployment", name, **{"model": {"uri": uri}} | spec)

    async def change(self, kind: str, name: str, spec: Manifest) -> Manifest:
        return await self.api.merge(self.ref(kind, name), {"spec": spec})

    def ref(self, kind: str, name: str) -> Ref:
        return Ref(kind, self.namespace, name)

    def get(self, kind: str, name: str) -> Manifest:
        """The live object; raises KeyError if there is none."""
        return self.world.objects[self.ref(kind, name)]

    def script(self, **outcomes: list[str]) -> None:
        self.kuberay.scripts[self.namespace] = Script(outcomes)

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        return await self.world.until(self.namespace, holds, what)

    async def until_reason(self, kind: str, name: str, type_: str, *reasons: str) -> Manifest:
        """Until a condition of the newest generation has one of the reasons."""

        def told() -> Manifest | None:
            found = self.get(kind, name)
            entry = condition(found["status"], type_)
            is_new = entry["observedGeneration"] == found["metadata"]["generation"]
            return found if is_new and entry["reason"] in reasons else None

        found: Manifest = await self.until(told, f"{kind} {name} has {type_} by {' or '.join(reasons)}")
        return found

    async def until_serving(self, name: str = "shop") -> str:
        """Until the newest content has all traffic and the one before has drained; returns the revision."""

        def served() -> str | None:
            found = self.get("ModelDeployment", name)
            status, generation = found["status"], found["metadata"]["generation"]
            rolled = condition(status, "Progressing")
            if condition(status, "Ready")["status"] != "True" or rolled["reason"] != "RolledOut":
                return None
            counts = status["replicas"]
            is_new = rolled["observedGeneration"] == generation and counts["ready"] == counts["desired"] == counts["current"]
            return str(status["activeRevision"]) if is_new else None

        return str(await self.until(served, f"ModelDeployment {name} serves"))

    async def until_gone(self) -> None:
        await self.until(lambda: not self.world.in_namespace(self.namespace), "nothing is left")


LINEAR = {"family": "LinearRegression"}
Scenario = Callable[[Play], Awaitable[None]]


async def create(play: Play) -> None:
    """A job and the deployment that follows it, in one apply."""
    await play.job()
    await play.apply("ModelDeployment", "line", model={"trainingJobRef": {"name": "line"}})
    await play.until_reason("TrainingJob", "line", "Succeeded", "Completed")
    await play.until_serving("line")


async def edit(play: Play) -> None:
    """Another model, more replicas, then as many as the load wants."""
    await play.deployment()
    first = await play.until_serving()
    await play.change("ModelDeployment", "shop", {"model": {"uri": "s3://models/newer"}})
    await play.until(lambda: play.get("ModelDeployment", "shop")["status"]["activeRevision"] != first, "another revision")
    await play.until_serving()
    await play.change("ModelDeployment", "shop", {"replicas": 3})
    await play.until(lambda: play.get("ModelDeployment", "shop")["status"]["replicas"]["ready"] == 3, "three replicas")
    await play.until_serving()


async def refused_edit(play: Play) -> None:
    """What may not change of a job is refused, and the job goes on."""
    await play.job()
    await play.until(lambda: play.get("TrainingJob", "line")["status"]["attempts"], "an attempt")
    with pytest.raises(ApiError, match="422"):
        await play.change("TrainingJob", "line", {"model": {"family": "LogisticRegression"}})
    await play.until_reason("TrainingJob", "line", "Succeeded", "Completed")


async def delete(play: Play) -> None:
    """Both are deleted in the middle of their start, one in the foreground; nothing stays and nothing comes back.

    Not even where somebody has cleaned the token of a running job away, which KubeRay needs to stop it.
    """
    play.script(line=["wait"])
    await play.job()
    await play.deployment()
    await play.until(lambda: play.get("RayJob", "line-1")["status"]["jobDeploymentStatus"] == "Running", "the job runs")
    await play.until(lambda: play.world.all("RayService", play.namespace)[0]["status"], "the RayService has begun")
    for secret in play.world.all("Secret", play.namespace):
        await play.api.delete(Ref.of(secret))
    await play.api.delete(play.ref("TrainingJob", "line"), "Background")
    await play.api.delete(play.ref("ModelDeployment", "shop"), "Foreground")
    await play.until_gone()


async def recreate(play: Play) -> None:
    """A job is deleted and made again under its name at once, and so is a deployment."""
    play.script(line=["wait"])
    first = await play.job()
    old = await play.deployment()
    await play.until(lambda: play.get("RayJob", "line-1")["status"]["jobDeploymentStatus"] == "Running", "the job runs")
    await play.until(lambda: play.world.all("RayService", play.namespace)[0]["status"], "the RayService has begun")
    play.script(line=["succeed"])
    for made in (first, old):
        await play.api.delete(Ref.of(made))
        await play.until(
            lambda: play.world.get(*Ref.of(made)) is None,  # noqa: B023
            "the old one is gone",
        )
    await play.job()
    await play.deployment()
    await play.until_reason("TrainingJob", "line", "Succeeded", "Completed")
    await play.until_serving()


async def meddle(play: Play) -> None:
    """Children are edited and deleted by hand, all come back as they were."""
    await play.deployment()
    revision = await play.until_serving()
    await play.api.merge(play.ref("Service", "shop"), {"spec": {"selector": {"ray.io/serve": "no"}}})
    for kind, name in (("NetworkPolicy", "shop-serving"), ("ConfigMap", f"{revision}-config"), ("RayService", revision)):
        await play.api.delete(play.ref(kind, name))
        before = play.world.get(kind, play.namespace, name)
        uid = before["metadata"]["uid"] if before else None
        await play.until(
            lambda: play.get(kind, name)["metadata"]["uid"] != uid,  # noqa: B023
            f"{kind} {name} is back",
        )
    await play.until(lambda: play.get("Service", "shop")["spec"]["selector"]["ray.io/serve"] == "true", "the Service is right")
    await play.until(lambda: condition(play.get("RayService", revision)["status"], "Ready"), "the new RayService runs")
    await play.until_serving()


async def jobs(play: Play) -> None:
    """Every end that a job can have."""
    play.script(crash=["crash"], data=["refuse the data"], lost=["lose the head", "succeed"])
    await play.job("good")
    await play.job("crash", runPolicy={"backoffLimit": 1})
    await play.job("data")
    await play.job("lost")
    await play.job("short", runPolicy={"ttlSecondsAfterFinished": 1})
    await play.until_reason("TrainingJob", "good", "Succeeded", "Completed")
    await play.until_reason("TrainingJob", "crash", "Succeeded", "BackoffLimitExceeded")
    await play.until_reason("TrainingJob", "data", "Succeeded", "DataInvalid")
    await play.until_reason("TrainingJob", "lost", "Succeeded", "Completed")
    await play.until(lambda: play.world.get("TrainingJob", play.namespace, "short") is None, "the short-lived job is gone")
    await play.until(
        lambda: not [c for c in play.world.all("RayJob", play.namespace) if "short" in c["metadata"]["name"]], "gone"
    )


async def suspend(play: Play) -> None:
    """A job is suspended and resumed."""
    play.script(line=["wait"])
    await play.job()
    await play.until(lambda: play.get("RayJob", "line-1")["status"]["jobDeploymentStatus"] == "Running", "the job runs")
    await play.change("TrainingJob", "line", {"suspend": True})
    await play.until(lambda: condition(play.get("TrainingJob", "line")["status"], "Suspended")["status"] == "True", "suspended")
    play.script(line=["succeed"])
    await play.change("TrainingJob", "line", {"suspend": False})
    await play.until_reason("TrainingJob", "line", "Succeeded", "Completed")


async def never_ready(play: Play) -> None:
    """The model cannot be loaded."""
    await play.deployment(uri="s3://models/bad")
    await play.until_reason("ModelDeployment", "shop", "Ready", "ApplicationFailed")


async def roll_back(play: Play) -> None:
    """A bad model leaves the one before in service; back to that, nothing is left of the bad one."""
    await play.deployment()
    first = await play.until_serving()
    await play.change("ModelDeployment", "shop", {"model": {"uri": "s3://models/bad"}})
    await play.until(lambda: len(play.world.all("RayService", play.namespace)) == 2, "the bad revision is tried")
    await play.until_reason("ModelDeployment", "shop", "Ready", "ServingPrevious")
    await play.change("ModelDeployment", "shop", {"model": {"uri": "s3://models/shop"}})
    assert await play.until_serving() == first
    await play.until(lambda: len(play.world.all("RayService", play.namespace)) == 1, "the bad revision is gone")


async def switch_off(play: Play) -> None:
    """No replicas, and some again."""
    await play.deployment()
    await play.until_serving()
    await play.change("ModelDeployment", "shop", {"replicas": 0})
    await play.until_reason("ModelDeployment", "shop", "Ready", "SwitchedOff")
    await play.until(lambda: not play.world.all("Pod", play.namespace), "no pods")
    await play.change("ModelDeployment", "shop", {"replicas": 1})
    await play.until_serving()


SCENARIOS: dict[str, Scenario] = {
    "S1 create": create,
    "S2 edit": edit,
    "S3 refused edit": refused_edit,
    "S4 delete": delete,
    "S4 delete and make again": recreate,
    "S5 meddle": meddle,
    "S6 jobs": jobs,
    "S6 suspend": suspend,
    "S7 never ready": never_ready,
    "S8 roll back": roll_back,
    "S8 switch off": switch_off,
}


async def settle(play: Play, seconds: float = 1.5) -> None:
    """Return when nothing has changed for a while."""
    while (still := play.world.still_for(play.namespace)) < seconds:  # noqa: ASYNC110
        await asyncio.sleep(seconds - still + 0.05)
