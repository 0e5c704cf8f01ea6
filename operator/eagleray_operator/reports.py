"""The reports endpoint: what the runtime tells about its work."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from eagleray_operator.cluster.port import Cluster, ClusterError
from eagleray_operator.controller.controller import Controller
from eagleray_operator.metrics import Metrics
from eagleray_runtime.contract.names import REPORT_AUDIENCE, REPORTS_PATH
from eagleray_runtime.contract.reports import REPORT, Report

logger = logging.getLogger(__name__)

MAX_REPORT_BYTES = 256 * 1024

Authenticate = Callable[[str, Report], Awaitable[int]]
"""Judges the bearer token of a report: 200, 401 (not valid), 403 (not of a pod of the resource) or 503 (cannot tell)."""


def by_token_review(cluster: Cluster, controller: Controller) -> Authenticate:
    """Only a live pod whose owner references lead to the resource may speak for it; labels and names count for nothing."""

    async def authenticate(token: str, report: Report) -> int:
        try:
            identity = await cluster.review_token(token, REPORT_AUDIENCE)
            if identity is None:
                return 401
            owners = await controller.owner_of_pod(identity.pod_name, identity.pod_uid, identity.namespace)
        except ClusterError as error:
            logger.warning("A report of %s cannot be judged: %s", report.resource.name, error.message)
            return 503
        return 200 if report.resource.uid in owners else 403

    return authenticate


def app(
    controller: Controller,
    authenticate: Authenticate,
    *,
    leading: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
) -> web.Application:
    """The endpoint as an aiohttp application; only the leader takes reports, the others answer 503."""

    async def answer(request: web.Request) -> tuple[str, int, str]:
        """Type of the report, HTTP status and words."""
        if not leading():
            return "unknown", 503, "not the leader: try again"
        try:
            report = REPORT.validate_json(await request.read())
        except web.HTTPRequestEntityTooLarge as error:
            return "unknown", error.status, f"a report has at most {MAX_REPORT_BYTES} bytes"
        except (web.RequestPayloadError, ValidationError) as error:
            return "unknown", 422, str(error)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return report.type, 401, "a bearer token is missing"
        status = await authenticate(token.strip(), report)
        return report.type, await controller.submit(report) if status == 200 else status, ""

    async def post(request: web.Request) -> web.Response:
        kind, status, words = await answer(request)
        if metrics is not None:
            metrics.report(kind, status)
        return web.Response(status=status, text=words)

    application = web.Application(client_max_size=MAX_REPORT_BYTES)
    application.router.add_post(REPORTS_PATH, post)
    return application
