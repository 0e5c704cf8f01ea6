import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from eagleray_operator.local.private_ray import LocalRayError, PrivateRay, free_ports, new_directory


@pytest.fixture
async def ray() -> AsyncIterator[PrivateRay]:
    private = PrivateRay(new_directory())
    yield private
    await private.stop()


def exists(path: Path) -> bool:
    return path.exists()


def a_python_that(folder: Path, script: str) -> str:
    """An executable in the place of Python, which starts the head."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)
    return str(file)


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_the_directory_is_for_us_alone_and_leaves_room_for_the_names_of_sockets() -> None:
    directory = new_directory()
    assert directory.stat().st_mode & 0o77 == 0
    # HAProxy adds a node's 56 characters and the socket's own name, and takes 97 in all.
    assert len(f"{directory}/h/") + 56 + len("/metrics.sock") <= 97
    directory.rmdir()


async def test_a_ray_that_cannot_start_says_its_last_words(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", a_python_that(tmp_path, "echo 'no room on the disk' >&2; exit 3"))
    with pytest.raises(LocalRayError, match="Ray did not start: no room on the disk"):
        await ray.start()
    assert not ray.started
    await ray.stop()
    assert not exists(ray.directory)
    await ray.stop()


async def test_nothing_of_the_users_ray_reaches_ours(ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://production:10001")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the user")
    seen = tmp_path / "environment"
    monkeypatch.setattr(sys, "executable", a_python_that(tmp_path, f"env > {seen}"))
    with pytest.raises(LocalRayError):
        await ray.start()
    environment = dict(line.split("=", 1) for line in read(seen).splitlines() if "=" in line)
    assert "RAY_ADDRESS" not in environment
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["EAGLERAY_ALLOW_FILE_URIS"] == "1"


def read(path: Path) -> str:
    return path.read_text()


async def test_a_ray_that_has_not_started_cannot_be_asked(ray: PrivateRay) -> None:
    with pytest.raises(LocalRayError, match="not started"):
        await ray.call("GET", "/api/jobs/")
    with pytest.raises(LocalRayError, match="not started"):
        assert ray.addresses


async def test_replicas_that_haproxy_sends_requests_to_are_counted(ray: PrivateRay) -> None:
    assert await ray.routed_replicas() is None
    rows = [
        "# pxname,svname,status",
        "http_frontend,FRONTEND,OPEN",
        "http-iris-b,SERVE_REPLICA_iris-b-Model-x1,UP",
        "http-iris-b,SERVE_REPLICA_iris-b-Model-x2,UP",
        "http-iris-b,SERVE_REPLICA_iris-b-Model-x3,DOWN",
        "http-iris-b,SERVE_PROXY_ACTOR-fallback-1,UP",
        "http-iris-b-c,SERVE_REPLICA_iris-b-c-Model-x1,UP",
    ]

    async def stats(_: web.Request) -> web.Response:
        return web.Response(text="\n".join(rows))

    application = web.Application()
    application.router.add_get("/stats;csv", stats)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ray.stats_port).start()
    try:
        assert await ray.routed_replicas() == {"iris-b": 2, "iris-b-c": 1}
    finally:
        await runner.cleanup()
