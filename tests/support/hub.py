"""A stand-in for the Hugging Face Hub, of which tests can have none: the routes that reading and writing a repository ask for.

It answers as the hub's documentation and the library's own code say, with two kinds of upload: content within the commit, and
Git LFS for `*.safetensors`. It knows no Xet, which the library would take first for LFS files, and one branch, `main`.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

READ, WRITE = "hf_reads", "hf_writes"

_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)(/(?P<what>[a-z-]+)/(?P<revision>[^/]+)(/(?P<path>.*))?)?")
_RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.*)")
_LFS = re.compile(r"/(datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch")


@dataclass
class Repository:
    """Contents by path, and for each commit the paths that it touched; `ignored` are endings in its .gitignore.

    Of a `gated` one all see the names, and nobody the contents.
    """

    private: bool = False
    gated: bool = False
    ignored: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)


class Hub:
    """Repositories by kind and name, such as `models/owner/name`; while `away` is not zero it says so and counts it down.

    The next request whose path holds `late` is answered a second after it came; `asked` are the paths of all.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.away = 0
        self.late: str | None = None
        self.asked: list[str] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers at its `address` until the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Routes", (_Routes,), {"hub": hub}))
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Routes(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._route(b"")

    def do_HEAD(self) -> None:
        self._route(b"")

    def do_POST(self) -> None:
        self._route(self._body())

    def do_PUT(self) -> None:
        self._route(self._body())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _route(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        if self.hub.late is not None and self.hub.late in path:
            self.hub.late = None
            time.sleep(1)
        if self.hub.away:
            self.hub.away -= 1
            self._say(503, error="busy")
        elif path.startswith("/lfs/"):
            self.hub.objects[path.removeprefix("/lfs/")] = body
            self._say(200)
        elif _LFS.fullmatch(path):
            self._batch(json.loads(body))
        elif found := _RESOLVE.fullmatch(path):
            if (repository := self._repository(found["kind"] or "models/", found)) is not None:
                self._give(repository, found["path"])
        elif (found := _API.fullmatch(path)) and (repository := self._repository(f"{found['kind']}/", found)) is not None:
            self._ask(repository, found, body)

    def _repository(self, kind: str, found: re.Match[str]) -> Repository | None:
        repository = self.hub.repositories.get(kind + found["id"])
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None or (repository.private and token not in (READ, WRITE)):
            self._say(404 if token else 401, code="RepoNotFound")
            return None
        if found["revision"] not in (None, "main"):
            self._say(404, code="RevisionNotFound")
            return None
        return repository

    def _give(self, repository: Repository, path: str) -> None:
        if repository.gated:
            self._say(403, code="GatedRepo", error="Access to this model is restricted: ask for it on its page")
        elif path in repository.files:
            self._say(200, repository.files[path])
        else:
            self._say(404, code="EntryNotFound")

    def _ask(self, repository: Repository, found: re.Match[str], body: bytes) -> None:
        if found["what"] in (None, "revision"):
            self._say(200, {"id": found["id"], "sha": "0" * 40, "private": repository.private, "tags": [], "siblings": []})
        elif found["what"] == "tree":
            self._tree(repository, found["path"] or "", "recursive=true" in self.path.lower())
        elif found["what"] == "preupload":
            self._say(200, {"files": [self._mode(repository, file["path"]) for file in json.loads(body)["files"]]})
        elif found["what"] == "commit":
            self._commit(repository, found["id"], [json.loads(line) for line in body.splitlines()])

    def _tree(self, repository: Repository, folder: str, recursive: bool) -> None:
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, object]] = {}
        for path, content in repository.files.items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                parent = prefix + "/".join(parts[:depth])
                entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40}
            if recursive or len(parts) == 1:
                entries[path] = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324
        if folder and not entries:
            self._say(404, code="EntryNotFound")
        else:
            self._say(200, list(entries.values()))

    @staticmethod
    def _mode(repository: Repository, path: str) -> dict[str, object]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": path.endswith(repository.ignored or ("\0",))}

    def _batch(self, asked: dict[str, list[dict[str, object]]]) -> None:
        objects = [
            {**wanted, "authenticated": True, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{wanted['oid']}"}}}
            for wanted in asked["objects"]
        ]
        self._say(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repository: Repository, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        if self.headers.get("Authorization") != f"Bearer {WRITE}":
            self._say(403, error="your token may only read")
            return
        files, touched = dict(repository.files), []
        for line in lines[1:]:
            path = line["value"]["path"]
            touched.append(path)
            if line["key"] == "file":
                files[path] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[path] = self.hub.objects[line["value"]["oid"]]
            else:
                del files[path]
        repository.files = files
        repository.commits.append(touched)
        oid = f"{len(repository.commits):040x}"
        self._say(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.address}/{name}/commit/{oid}"})

    def _say(self, status: int, content: object = b"", *, code: str = "", error: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for header, value in (("X-Error-Code", code), ("X-Error-Message", error)):
            if value:
                self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
