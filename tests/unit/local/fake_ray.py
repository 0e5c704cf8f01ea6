"""Stands in for the REST APIs of a private Ray: takes what LocalRay sends and answers with a state that a test sets."""

from typing import Any

from eagleray_operator.local.private_ray import RayAddresses


class FakeRay:
    def __init__(self, cpus: float = 8) -> None:
        self.serve_port = 8123
        self.started = True
        self.addresses = RayAddresses("http://127.0.0.1:1", "127.0.0.1:2", cpus, 0)
        self.submitted: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.stopped: list[str] = []
        self.refusals: list[tuple[int, Any]] = []
        self.documents: list[dict[str, Any]] = []
        self.applications: dict[str, Any] = {}
        self.put_answer: tuple[int, Any] = (200, "")
        self.routed: dict[str, int] | None = {}

    async def routed_replicas(self) -> dict[str, int] | None:
        return self.routed

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if path == "/api/serve/applications/":
            return self._serve(method, body)
        if method == "POST" and path == "/api/jobs/":
            return self._submit(body)
        name = path.removeprefix("/api/jobs/")
        if method == "POST":
            self.stopped.append(name.removesuffix("/stop"))
            self.jobs[self.stopped[-1]]["status"] = "STOPPED"
            return 200, {"stopped": True}
        return (200, self.jobs[name]) if name in self.jobs else (404, "no such job")

    def _submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.refusals:
            return self.refusals.pop(0)
        self.submitted[body["submission_id"]] = body
        self.jobs[body["submission_id"]] = {"status": "PENDING", "message": "queued"}
        return 200, {"submission_id": body["submission_id"]}

    def _serve(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, {"applications": self.applications}
        self.documents.append(body)
        return self.put_answer

    def runs(self, name: str, replicas: int = 1, *, target: int | None = None, routed: int | None = None) -> None:
        """The application runs with that many replicas."""
        self.applications[name] = {
            "status": "RUNNING",
            "message": "",
            "deployments": {
                "Model": {
                    "status": "HEALTHY",
                    "message": "",
                    "target_num_replicas": replicas if target is None else target,
                    "replicas": [{"state": "RUNNING"}] * replicas,
                }
            },
        }
        assert self.routed is not None
        self.routed[name] = replicas if routed is None else routed
