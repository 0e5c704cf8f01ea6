"""Gives a pod template's volumes a place on this machine, and the config in them paths that are true here."""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_runtime.contract import names as runtime_names


class MountError(Exception):
    """What a volume needs is not there; the text is for the user. `claim` tells that it is a claim."""

    def __init__(self, message: str, *, claim: bool = False) -> None:
        super().__init__(message)
        self.claim = claim


@dataclass(frozen=True)
class Mounted:
    """What a process needs to know instead of a pod's mounts."""

    config: Path
    environment: Mapping[str, str]


class Mounts:
    """Writes mounts below one directory."""

    def __init__(self, directory: Path, volumes: Path, report_token: str, cluster: MemoryCluster) -> None:
        """`volumes` holds a folder for each namespace and in it one for each claim."""
        self._directory = directory
        self._volumes = volumes
        self._report_token = report_token
        self._cluster = cluster

    def claims(self, namespace: str) -> Path:
        """Folder of the claims of a namespace."""
        return self._volumes / namespace

    async def make(self, name: str, namespace: str, template: Manifest) -> Mounted:
        """Write what the template mounts into the folder `name`; raises MountError if some of it is not there."""
        spec = template["spec"]
        container = spec["containers"][0]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        contents: dict[str, dict[str, bytes] | Path] = {}
        for mount in container.get("volumeMounts", []):
            contents[mount["mountPath"]] = await self._content_of(namespace, volumes[mount["name"]])
        variables = {
            variable["name"]: await self._value_of(namespace, variable)
            for variable in container.get("env", [])
            if not variable["name"].startswith("RAY_")
        }
        return self._write(self._directory / name, variables, contents, self.claims(namespace))

    @staticmethod
    def _write(folder: Path, variables: Mapping[str, str], contents: dict[str, dict[str, bytes] | Path], claims: Path) -> Mounted:
        places: dict[str, Path] = {}
        for index, (mount, content) in enumerate(contents.items()):
            place = content if isinstance(content, Path) else folder / str(index)
            place.mkdir(parents=True, exist_ok=True)
            for key, value in content.items() if isinstance(content, dict) else ():
                _write(place / key, value)
            places[mount] = place
        environment = {name: _moved(value, places) for name, value in variables.items()}
        environment[runtime_names.PVC_ROOT_ENV] = str(claims)
        config = Path(environment[runtime_names.CONFIG_PATH_ENV])
        written = json.loads(config.read_text(encoding="utf-8"))
        _write(config, json.dumps(_all_moved(written, places)).encode())
        return Mounted(config, environment)

    def remove(self, name: str) -> None:
        """Remove what was written for a name."""
        shutil.rmtree(self._directory / name, ignore_errors=True)

    async def _value_of(self, namespace: str, variable: Mapping[str, Any]) -> str:
        """The value of a variable, be it that of a key."""
        if "value" in variable:
            return str(variable["value"])
        [(source, reference)] = variable["valueFrom"].items()
        items = {"items": [{"key": reference["key"], "path": "value"}]}
        kind = "Secret" if source == "secretKeyRef" else "ConfigMap"
        return (await self._content(kind, namespace, reference["name"], items))["value"].decode()

    async def _content_of(self, namespace: str, volume: Mapping[str, Any]) -> dict[str, bytes] | Path:
        """Files of a volume, or the folder that it is."""
        if "configMap" in volume:
            return await self._content("ConfigMap", namespace, volume["configMap"]["name"], volume["configMap"])
        if "secret" in volume:
            return await self._content("Secret", namespace, volume["secret"]["secretName"], volume["secret"])
        if "persistentVolumeClaim" in volume:
            return await self._claim(namespace, volume["persistentVolumeClaim"]["claimName"])
        return {"token": self._report_token.encode()} if volume["name"] == "report-token" else {}

    async def _content(self, kind: str, namespace: str, name: str, source: Mapping[str, Any]) -> dict[str, bytes]:
        live = await self._cluster.get(Ref(kind, namespace, name))
        if live is None:
            if source.get("optional"):
                return {}
            raise MountError(f'{kind.lower()} "{name}" not found')
        plain = {} if kind == "Secret" else {key: value.encode() for key, value in (live.get("data") or {}).items()}
        encoded = live.get("data" if kind == "Secret" else "binaryData") or {}
        content = plain | {key: base64.b64decode(value) for key, value in encoded.items()}
        items = source.get("items")
        if items is None:
            return content
        for item in items:
            if item["key"] not in content:
                raise MountError(
                    f'{kind.lower()} "{name}" has no key {item["key"]}; it has {", ".join(sorted(content)) or "none"}'
                )
        return {item["path"]: content[item["key"]] for item in items}

    async def _claim(self, namespace: str, name: str) -> Path:
        folder = self.claims(namespace) / name
        claimed = await self._cluster.get(Ref("PersistentVolumeClaim", namespace, name)) is not None
        if not claimed and not await asyncio.to_thread(folder.is_dir):
            raise MountError(f'persistentvolumeclaim "{name}" not found: make the folder {folder} (option --volumes)', claim=True)
        return folder


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _moved(text: str, places: Mapping[str, Path]) -> str:
    """The text, if it is a path below a mount, as the path on this machine."""
    for mount in sorted(places, key=len, reverse=True):
        if text == mount or text.startswith(f"{mount}/"):
            return f"{places[mount]}{text.removeprefix(mount)}"
    return text


def _all_moved(value: Any, places: Mapping[str, Path]) -> Any:
    if isinstance(value, dict):
        return {key: _all_moved(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_all_moved(item, places) for item in value]
    return _moved(value, places) if isinstance(value, str) else value
