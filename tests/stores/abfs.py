"""Azure's Blob Storage as Azurite plays it, with the account and key that it always has."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient

from tests.cluster.layout import cache_folder

CONTAINER = "models"
ROOT = f"abfs://{CONTAINER}"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PACKAGE = Path(__file__).parent / "azurite"


def command(port: int) -> list[str]:
    """Its command line; it is installed now, by its lock, if there is a Node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Azurite cannot run: install Node")
    folder = installed()
    script = folder / "node_modules/azurite/dist/src/blob/main.js"
    return ["node", str(script), "--inMemoryPersistence", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]


def installed() -> Path:
    """The folder of the packages, made whole or not at all."""
    lock = (PACKAGE / "package-lock.json").read_bytes()
    folder = cache_folder() / "builds" / f"azurite-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not folder.is_dir():
        unfinished = folder.with_name(f".{folder.name}.{uuid4().hex}.unfinished")
        shutil.copytree(PACKAGE, unfinished)
        npm = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=unfinished, check=True, capture_output=True)
        unfinished.rename(folder)
    return folder


def connection_string(port: int, key: str = KEY) -> str:
    endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT}"
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};{endpoint};"


def keys(port: int) -> dict[str, str]:
    return {"AZURE_STORAGE_CONNECTION_STRING": connection_string(port)}


def make_container(port: int) -> None:
    with BlobServiceClient.from_connection_string(connection_string(port)) as client:
        client.create_container(CONTAINER).close()
