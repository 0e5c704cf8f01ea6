import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.local.mounts import MountError, Mounts

CONFIG = {"a": "/etc/eagleray/data/rows.csv", "b": ["/etc/eagleray/secrets/data"], "c": "/etc/eagleray-other", "d": 1}


def plain(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, **content}


def template(*volumes: tuple[str, str, dict[str, Any]], variables: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    all_volumes = (("config", "/etc/eagleray", {"configMap": {"name": "config"}}), *volumes)
    return {
        "spec": {
            "containers": [
                {
                    "env": [
                        {"name": "EAGLERAY_CONFIG", "value": "/etc/eagleray/config.json"},
                        {"name": "RAY_worker_niceness", "value": "0"},
                        {"name": "RAY_FROM_ELSEWHERE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none"}}},
                        *variables,
                    ],
                    "volumeMounts": [{"name": name, "mountPath": path} for name, path, _ in all_volumes],
                }
            ],
            "volumes": [{"name": name, **volume} for name, _, volume in all_volumes],
        }
    }


@pytest.fixture
async def mounts(tmp_path: Path) -> Mounts:
    cluster = MemoryCluster()
    await cluster.put(plain("ConfigMap", "config", data={"config.json": json.dumps(CONFIG)}))
    await cluster.put(plain("ConfigMap", "rows", data={"rows.csv": "x"}, binaryData={"raw": base64.b64encode(b"\xff").decode()}))
    await cluster.put(plain("Secret", "keys", data={"AWS_ACCESS_KEY_ID": base64.b64encode(b"id").decode()}))
    await cluster.put(plain("PersistentVolumeClaim", "made", spec={}))
    return Mounts(tmp_path / "pods", tmp_path / "volumes", "token", cluster)


def names_in(folder: str) -> list[str]:
    return [entry.name for entry in Path(folder).iterdir()]


def read(path: str | Path) -> bytes:
    return Path(path).read_bytes()


async def test_paths_below_mounts_become_paths_of_this_machine(mounts: Mounts) -> None:
    mounted = await mounts.make(
        "a",
        "default",
        template(
            ("data", "/etc/eagleray/data", {"configMap": {"name": "rows"}}),
            ("data-secret", "/etc/eagleray/secrets/data", {"secret": {"secretName": "keys"}}),
        ),
    )
    config = json.loads(read(mounted.config))
    assert read(config["a"]) == b"x"
    assert read(Path(config["a"]).with_name("raw")) == b"\xff"
    assert read(Path(config["b"][0]) / "AWS_ACCESS_KEY_ID") == b"id"
    assert (config["c"], config["d"]) == ("/etc/eagleray-other", 1)
    assert set(mounted.environment) == {"EAGLERAY_CONFIG", "EAGLERAY_PVC_ROOT"}
    mounts.remove("a")
    assert not mounted.config.exists()


async def test_variables_come_from_where_they_are_kept(mounts: Mounts) -> None:
    variables = [
        {"name": "PLAIN", "value": "1"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "AWS_ACCESS_KEY_ID"}}},
        {"name": "ROWS", "valueFrom": {"configMapKeyRef": {"name": "rows", "key": "rows.csv"}}},
    ]
    mounted = await mounts.make("a", "default", template(variables=variables))
    assert {name: mounted.environment[name] for name in ("PLAIN", "KEY", "ROWS")} == {"PLAIN": "1", "KEY": "id", "ROWS": "x"}
    missing = {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "other"}}}
    with pytest.raises(MountError, match='secret "keys" has no key other; it has AWS_ACCESS_KEY_ID'):
        await mounts.make("b", "default", template(variables=[missing]))


async def test_a_secret_that_may_be_missing_is_an_empty_folder(mounts: Mounts) -> None:
    volume = {"secret": {"secretName": "none", "optional": True}}
    mounted = await mounts.make("a", "default", template(("data-secret", "/etc/eagleray/secrets/data", volume)))
    assert names_in(json.loads(read(mounted.config))["b"][0]) == []


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        (
            {"configMap": {"name": "rows", "items": [{"key": "a", "path": "a"}]}},
            'configmap "rows" has no key a; it has raw, rows.csv',
        ),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"persistentVolumeClaim": {"claimName": "none"}}, 'persistentvolumeclaim "none" not found'),
    ],
)
async def test_what_is_missing_is_told(mounts: Mounts, volume: dict[str, Any], message: str) -> None:
    with pytest.raises(MountError) as refused:
        await mounts.make("a", "default", template(("data", "/data", volume)))
    assert message in str(refused.value)


async def test_claims_are_folders_of_their_namespace(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "volumes" / "default" / "found").mkdir(parents=True)
    for claim in ("made", "found"):
        volume = {"persistentVolumeClaim": {"claimName": claim}}
        mounted = await mounts.make(claim, "default", template(("claim", f"/mnt/eagleray/pvc/{claim}", volume)))
        assert mounted.environment["EAGLERAY_PVC_ROOT"] == str(tmp_path / "volumes" / "default")
        assert (tmp_path / "volumes" / "default" / claim).is_dir()
