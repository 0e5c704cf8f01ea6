"""Whose keys open a container of Azure's; the emulator checks them as Azure does."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage import Store
from tests.stores.abfs import ACCOUNT, KEY, ROOT, connection_string

WRONG_KEY = base64.b64encode(bytes(64)).decode()


@pytest.fixture
def store(secret):
    def make(connection, uri=f"{ROOT}/keys"):
        return Store(Location(uri=uri, secret_directory=str(secret({"AZURE_STORAGE_CONNECTION_STRING": connection}))))

    return make


@pytest.mark.parametrize(
    "ask", [lambda store: store.read("x"), lambda store: store.exists("x"), lambda store: store.write("x", b"")]
)
def test_a_wrong_key_is_told_as_one(abfs_emulator, store, ask):
    words = r"cannot .* x: .*failed to authenticate the request.*: check the keys of the secret and what they may do there"
    with pytest.raises(StoreRefused, match=words) as refused:
        ask(store(connection_string(abfs_emulator.port, WRONG_KEY)))
    assert "RequestId" not in refused.value.message


def test_a_shared_access_signature_may_do_what_it_says_and_no_more(abfs_emulator, store):
    store(connection_string(abfs_emulator.port)).write("x", b"hi")
    signature = generate_account_sas(
        ACCOUNT,
        KEY,
        resource_types=ResourceTypes(container=True, object=True),
        permission=AccountSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    endpoint = f"BlobEndpoint=http://127.0.0.1:{abfs_emulator.port}/{ACCOUNT}"
    reader = store(f"{endpoint};SharedAccessSignature={signature}")
    assert reader.read("x") == b"hi"
    with pytest.raises(StoreRefused, match=r"cannot write y: .*check the keys of the secret and what they may do there"):
        reader.write("y", b"")


def test_a_container_that_is_not_there_says_what_to_check(abfs_emulator, store):
    nowhere = store(connection_string(abfs_emulator.port), "abfs://elsewhere/keys")
    for ask in (lambda: nowhere.read("x"), lambda: nowhere.write("x", b"")):
        with pytest.raises(StoreRefused, match=r"x: it is not there: check container, path and spelling"):
            ask()
    assert not nowhere.exists("x")
