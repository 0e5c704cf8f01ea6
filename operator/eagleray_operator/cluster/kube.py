"""A real cluster, through its apiserver. The only module that imports the Kubernetes client."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from eagleray_operator.api import names
from eagleray_operator.cluster.limits import RateLimit
from eagleray_operator.cluster.port import KINDS, ClusterError, Event, Kind, Manifest, Ref, TokenIdentity
from eagleray_operator.metrics import Metrics

REQUEST_TIMEOUT_SECONDS = 30
DISCOVERY_VALID_SECONDS = 10.0
OWN_KINDS = (names.TRAINING_JOB, names.MODEL_DEPLOYMENT)
LABEL_SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"

PAGE_OBJECTS = 250
"""Objects of one answer to a listing: thousands at once would be parsed for seconds in which nothing else happens."""

NOTE_MAX = 1000
"""Longest note of an event in bytes of UTF-8; the apiserver takes 1,024."""

POD_NAME_KEY = "authentication.kubernetes.io/pod-name"
POD_UID_KEY = "authentication.kubernetes.io/pod-uid"

ELECTION = "/apis/coordination.k8s.io/"

WITHOUT_WAITING = ("Lease", "TokenReview")
"""What must not stand in a line behind thousands of objects: the election, and pods that wait for an answer."""


class KubeCluster:
    """The cluster behind the kubeconfig or, within a pod, behind its service account."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        limit: RateLimit | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_write` is asked at the last moment before every write but those of the election itself."""
        self._metrics = metrics
        self._limit = limit
        self._may_write = may_write
        self._client: client.ApiClient | None = None
        self._served: dict[str, tuple[float, frozenset[str]]] = {}
        self._discovery = asyncio.Lock()

    async def connect(self) -> None:
        """Read the credentials; raises kubernetes' ConfigException when there are none."""
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        # Our own queue decides what is tried again, and when.
        configuration.retries = False
        # What is asked at a time is bounded by the workers; the lease must never wait for a connection behind them.
        configuration.connection_pool_maxsize = 0
        configuration.client_session_kwargs = {"request_class": _request_class(self._may_write)}
        self._client = client.ApiClient(configuration)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def get(self, ref: Ref) -> Manifest | None:
        """The live object, or None if there is none."""
        try:
            return await self._object("GET", _path(ref), ref.kind)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def list_all(self, kind: str) -> list[Manifest]:
        """All objects of a kind that concern us, as they were at one moment."""
        query = {"limit": str(PAGE_OBJECTS)} | ({} if kind in OWN_KINDS else {"labelSelector": LABEL_SELECTOR})
        # Items of a list carry neither kind nor version.
        head = {"apiVersion": KINDS[kind].api_version, "kind": kind}
        found: list[Manifest] = []
        while True:
            # A moment too long ago is answered 410: the listing failed, and is tried again as any other.
            page = await self.request("GET", f"{_base(KINDS[kind])}/{KINDS[kind].plural}?{urlencode(query)}", kind)
            found += (head | item for item in page["items"])
            if not (token := page["metadata"].get("continue")):
                return found
            query["continue"] = token

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as field manager `eagleray`."""
        ref = Ref.of(manifest)
        query = urlencode({"fieldManager": names.FIELD_MANAGER, "force": "true"})
        return await self._object("PATCH", f"{_path(ref)}?{query}", ref.kind, manifest, "application/apply-patch+yaml")

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create; an object of that name that is already there is left as it is, and None returned."""
        ref = Ref.of(manifest)
        kind = KINDS[ref.kind]
        # Strict, as a field that is not known would be dropped without a word.
        query = urlencode({"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"})
        path = f"{_base(kind)}/namespaces/{quote(ref.namespace)}/{kind.plural}?{query}"
        try:
            return await self._object("POST", path, ref.kind, manifest)
        except ClusterError as error:
            if error.status == 409:
                return None
            raise

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]]) -> Manifest:
        """JSON patch; returns the live object."""
        query = urlencode({"fieldManager": names.FIELD_MANAGER})
        return await self._object(
            "PATCH",
            f"{_path(ref)}?{query}",
            ref.kind,
            [dict(operation) for operation in operations],
            "application/json-patch+json",
        )

    async def write_status(self, resource: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Make `status` the whole status, provided that the object is still at that resourceVersion."""
        ref = Ref.of(resource)
        # Setting the resourceVersion makes it a precondition: 409 if the object has changed meanwhile.
        operations = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        query = urlencode({"fieldManager": names.FIELD_MANAGER})
        return await self._object("PATCH", f"{_path(ref)}/status?{query}", ref.kind, operations, "application/json-patch+json")

    async def delete(self, ref: Ref, uid: str, version: str | None = None) -> None:
        """Delete the object of that UID, with a version only as it was then, in the background; gone already is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid} | ({"resourceVersion": version} if version is not None else {}),
        }
        try:
            await self.request("DELETE", _path(ref), ref.kind, body)
        except ClusterError as error:
            # 404: gone. 409: another object by now, or another version, which is not meant.
            if error.status not in (404, 409):
                raise

    async def record(self, resource: Manifest, event: Event) -> None:
        """Write an event about the resource."""
        await self.request("POST", events(resource["metadata"]["namespace"]), "Event", event_manifest(resource, event))

    async def serves(self, kind: str) -> bool:
        """Whether the cluster knows that kind; asked at most every few seconds for a group."""
        wanted = KINDS[kind]
        # Many reconciles want to know at the same moment: one asks for all.
        async with self._discovery:
            known = self._served.get(wanted.api_version)
            if known is None or time.monotonic() - known[0] > DISCOVERY_VALID_SECONDS:
                try:
                    answer = await self.request("GET", _base(wanted), "APIResourceList")
                    kinds = frozenset(resource["kind"] for resource in answer.get("resources", []))
                except ClusterError as error:
                    if error.status != 404:
                        raise
                    kinds = frozenset()
                known = (time.monotonic(), kinds)
                self._served[wanted.api_version] = known
        return kind in known[1]

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        """The pod that the token belongs to; None if it is not valid for the audience or not of a pod."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        answer = await self.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "TokenReview", body)
        status = answer.get("status", {})
        if not status.get("authenticated") or audience not in status.get("audiences", []):
            return None
        user = status.get("user", {})
        extra = user.get("extra") or {}
        pod_names, pod_uids = extra.get(POD_NAME_KEY), extra.get(POD_UID_KEY)
        parts = str(user.get("username", "")).split(":")
        # A token that was made by hand for the audience has no pod behind it.
        if not pod_names or not pod_uids or parts[:2] != ["system", "serviceaccount"] or len(parts) != 4:
            return None
        return TokenIdentity(pod_name=pod_names[0], pod_uid=pod_uids[0], namespace=parts[2])

    async def _object(
        self, method: str, path: str, kind: str, body: Any = None, content_type: str = "application/json"
    ) -> Manifest:
        manifest: Manifest = await self.request(method, path, kind, body, content_type)
        return manifest

    async def request(self, method: str, path: str, kind: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request; returns the JSON answer. Raises ClusterError with the apiserver's own words."""
        if self._client is None:
            raise ClusterError(0, "not connected yet")
        if self._limit is not None and kind not in WITHOUT_WAITING:
            await self._limit.take()
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        code = 0
        try:
            response = await self._client.rest_client.request(
                method,
                self._client.configuration.host + path,
                headers=headers,
                body=body,
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
            text = (await response.read()).decode()
            code = response.status
            if not 200 <= code < 300:
                raise _error(code, text, response.headers.get("Retry-After"))
            return json.loads(text) if text else {}
        except client.ApiException as error:
            code = error.status or 0
            raise _error(code, error.body or str(error.reason), (error.headers or {}).get("Retry-After")) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterError(0, f"{type(error).__name__}: {error}") from error
        except ClusterError as error:
            if error.status == 429 and self._limit is not None:
                self._limit.close(error.retry_after or 1.0)
            raise
        finally:
            if self._metrics is not None:
                self._metrics.api_request(method, kind, code)


def _request_class(may_write: Callable[[], bool]) -> type[aiohttp.ClientRequest]:
    """Requests that ask once they have a connection, right before they are sent.

    Earlier would not do: a process that is stopped while it waits for a connection would write when it goes on, whoever
    leads by then.
    """

    class Request(aiohttp.ClientRequest):
        async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
            if self.method != "GET" and not self.url.path.startswith(ELECTION) and not may_write():
                raise ClusterError(0, "another process may lead by now: nothing is written")
            return await super().send(conn)

    return Request


def events(namespace: str) -> str:
    """Path of a namespace's events."""
    return f"/apis/events.k8s.io/v1/namespaces/{quote(namespace)}/events"


def event_manifest(resource: Manifest, event: Event) -> Manifest:
    """An event about the resource, under a name of its own."""
    metadata = resource["metadata"]
    moment = datetime.now(UTC)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{time.time_ns():x}", "namespace": metadata["namespace"]},
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "note": event.message.encode()[:NOTE_MAX].decode(errors="ignore"),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": os.environ.get("POD_NAME", "local"),
        "regarding": {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }


def _base(kind: Kind) -> str:
    return f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"


def _path(ref: Ref) -> str:
    kind = KINDS[ref.kind]
    return f"{_base(kind)}/namespaces/{quote(ref.namespace)}/{kind.plural}/{quote(ref.name)}"


def _error(status: int, body: str, retry_after: str | None) -> ClusterError:
    try:
        message = str(json.loads(body).get("message") or body)
    except (ValueError, AttributeError):
        message = body
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ClusterError(status, message, seconds)
