"""The apiserver as its administrator, asynchronously: what users, KubeRay and the onlooker of a fault run need."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from eagleray_operator.cluster.port import KINDS, Kind, Ref

Manifest = dict[str, Any]

ALL_KINDS = {
    **KINDS,
    "Namespace": Kind("", "v1", "Namespace", "namespaces"),
    "ServiceAccount": Kind("", "v1", "ServiceAccount", "serviceaccounts"),
    "Lease": Kind("coordination.k8s.io", "v1", "Lease", "leases"),
}

MERGE = "application/merge-patch+json"
LINE_BYTES = 2**23


class ApiError(Exception):
    """The apiserver refused; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Server:
    """Address and credentials of an apiserver, from a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        content = json.loads(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        self.url = str(cluster["server"])
        self.token = str(content["users"][0]["user"]["token"])
        self.ssl = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def session(self, **more: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.ssl)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=LINE_BYTES, **more)


class Api:
    """Requests as the administrator."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._server.session(headers={"Authorization": f"Bearer {self._server.token}"})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._session is not None
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Manifest:
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, self._server.url + path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            found: Manifest = json.loads(await answer.read())
        if answer.status == 429:
            # As it says of a definition that was just made.
            await asyncio.sleep(1)
            return await self.request(method, path, body, content_type)
        if answer.status >= 300:
            raise ApiError(answer.status, str(found.get("message")))
        return found

    async def create(self, manifest: Manifest) -> Manifest:
        return await self.request("POST", collection(manifest["kind"], manifest["metadata"].get("namespace", "")), manifest)

    async def merge(self, ref: Ref, change: Manifest, subresource: str = "") -> Manifest:
        return await self.request("PATCH", path_of(ref) + subresource, change, MERGE)

    async def set_status(self, ref: Ref, uid: str, status: Manifest) -> Manifest:
        """Merge into the status of the object of that UID."""
        return await self.merge(ref, {"metadata": {"uid": uid}, "status": status}, "/status")

    async def delete(self, ref: Ref, policy: str = "Background", uid: str | None = None) -> None:
        """Delete; gone already is fine."""
        options: Manifest = {"propagationPolicy": policy}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", path_of(ref), options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def list(self, kind: str) -> tuple[list[Manifest], str]:
        answer = await self.request("GET", collection(kind, ""))
        head = {"apiVersion": ALL_KINDS[kind].api_version, "kind": kind}
        return [head | item for item in answer["items"]], answer["metadata"]["resourceVersion"]

    async def watch(self, kind: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Events since that version, until the apiserver closes the stream."""
        assert self._session is not None
        path = f"{collection(kind, '')}?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
        async with self._session.get(self._server.url + path) as answer:
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]

    async def token(self, namespace: str, pod: str, uid: str, audience: str) -> str:
        """A token of the pod's, as the kubelet would project it."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        path = f"{path_of(Ref('ServiceAccount', namespace, 'default'))}/token"
        spec = {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str((await self.request("POST", path, body))["status"]["token"])

    async def make_namespace(self, name: str) -> None:
        """Create it and wait for what its pods run as."""
        await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for _ in range(600):
            try:
                await self.request("GET", path_of(Ref("ServiceAccount", name, "default")))
            except ApiError:
                await asyncio.sleep(0.1)
            else:
                return
        raise AssertionError(f"namespace {name} got no service account: does the controller manager run?")


def collection(kind: str, namespace: str) -> str:
    known = ALL_KINDS[kind]
    root = f"/apis/{known.api_version}" if known.group else f"/api/{known.version}"
    return f"{root}/namespaces/{namespace}/{known.plural}" if namespace else f"{root}/{known.plural}"


def path_of(ref: Ref) -> str:
    return f"{collection(ref.kind, ref.namespace)}/{ref.name}"
