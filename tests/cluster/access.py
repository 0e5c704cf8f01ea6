"""Keys, tokens and kubeconfig files of a control plane."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from .commands import run


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


@dataclass(frozen=True)
class Credentials:
    """The secrets of one control plane, made afresh each time so that no earlier client gets in by accident."""

    folder: Path

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "service-accounts.key"

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @property
    def authority(self) -> Path:
        """What clients verify the apiserver by: it writes a certificate of its own making when it starts."""
        return self.certificates / "apiserver.crt"

    def create(self) -> str:
        """Make new secrets and return the administrator's token."""
        token = secrets.token_urlsafe(32)
        write_private(self.tokens, f"{token},admin,admin,system:masters\n")
        write_private(self.service_account_key, run(["openssl", "genrsa", "2048"]))
        return token


def kubeconfig(server: str, authority: bytes, token: str) -> str:
    """Return a kubeconfig; JSON is YAML too, and needs no library to write."""
    name = "eagleray-test"
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(content, indent=2) + "\n"
