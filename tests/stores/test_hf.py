"""What is particular to repositories of a hub: who may read and write, which revision, and that a model is one commit."""

import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import Location
from eagleray_runtime.data import base
from eagleray_runtime.errors import StoreRefused, StoreUnavailable
from eagleray_runtime.storage import Store
from tests.support.hub import READ, WRITE, Repository

MODELS = "models/team/models"


@pytest.fixture
def store(hub, secret):
    def make(path="", token=WRITE, root="hf://team/models"):
        keys = {"HF_ENDPOINT": hub.address} | ({"HF_TOKEN": token} if token else {})
        return Store(Location(uri=f"{root}{path}", secret_directory=str(secret(keys))))

    return make


def test_a_private_repository_is_opened_by_a_token_and_not_without(hub, store):
    hub.repositories[MODELS].files["a/x"] = b"hi"
    assert store("/a", READ).read("x") == b"hi"
    for ask in (lambda: store("/a", None).read("x"), lambda: store("/a", None).exists("x")):
        with pytest.raises(StoreRefused, match=r"x: it is not there: check repository, .* and HF_TOKEN if it is private"):
            ask()


def test_a_gated_repository_says_how_it_is_opened(hub, store):
    hub.repositories["models/team/llm"] = Repository(gated=True, files={"config.json": b"{}"})
    words = r"cannot read config.json: Access to this model is restricted.*: check the keys of the secret"
    with pytest.raises(StoreRefused, match=words):
        store("", READ, "hf://team/llm").read("config.json")


def test_a_token_that_may_only_read_is_told_as_one(store):
    with pytest.raises(StoreRefused, match=r"cannot write x: your token may only read: check the keys of the secret"):
        store("/a", READ).write("x", b"")


def test_a_repository_that_is_not_there_is_none_without_the_file(store):
    """Else a job would train for hours, and find out when it saves its model."""
    with pytest.raises(StoreRefused, match=r"cannot look up bundle.json: it is not there: check repository"):
        store(root="hf://team/misspelt").exists("bundle.json")
    with pytest.raises(StoreRefused, match=r"cannot look up bundle.json: it is not there: check repository"):
        store("@misspelt").exists("bundle.json")


def test_data_are_read_from_a_data_set_at_a_revision(hub, store):
    hub.repositories["datasets/team/rows"] = Repository(files={"a/1.csv": b"1", "a/2.csv": b"2", "a/b/3.csv": b"3"})
    rows = store("@main/a/*.csv", None, "hf://datasets/team/rows")
    assert [rows.read_path(path) for path in rows.find()] == [b"1", b"2"]
    everything = store("@main", None, "hf://datasets/team/rows")
    assert [path.removeprefix(everything.path) for path in everything.find_below()] == ["/a/1.csv", "/a/2.csv", "/a/b/3.csv"]


@pytest.mark.parametrize("place", ["hf"], indirect=True)
def test_a_model_is_one_commit(hub, job, attempt, place):
    before = len(hub.repositories[MODELS].commits)
    saved = attempt(job).model
    [commit] = hub.repositories[MODELS].commits[before:]
    assert "place/model/bundle.json" in commit
    assert sorted(commit) == sorted(f"place/model/{name}" for name in place.store("model").names("*"))
    assert read_bundle(place.store("model")).digest == saved.digest


@pytest.mark.parametrize("place", ["hf"], indirect=True)
def test_a_repository_that_would_leave_a_file_out_is_refused_and_left_as_it_was(hub, job, attempt, place):
    hub.repositories[MODELS].ignored = (".json",)
    before = dict(hub.repositories[MODELS].files)
    with pytest.raises(StoreRefused, match=r"\.gitignore leaves out place/model/bundle.json: remove that from it"):
        attempt(job)
    assert hub.repositories[MODELS].files == before


def test_what_others_have_committed_meanwhile_is_seen(hub, store):
    watching = store("/a")
    assert not watching.exists("x")
    hub.repositories[MODELS].files["a/x"] = b"hi"
    assert watching.exists("x")
    assert watching.read("x") == b"hi"


def test_a_hub_that_is_away_for_a_moment_is_waited_for(hub, store, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for ask, expected in (
        (lambda: store("/a").write("x", b"hi"), None),
        (lambda: store("/a").read("x"), b"hi"),
        (lambda: store("/a").exists("x"), True),
        (lambda: store("/a").names("*"), ["x"]),
    ):
        hub.away = 2
        assert ask() == expected


def test_a_hub_that_does_not_answer_is_asked_again(hub, store, monkeypatch):
    monkeypatch.setattr("eagleray_runtime.storage.hf.READ_SECONDS", 0.2)
    hub.repositories[MODELS].files["a/x"] = b"hi"
    hub.late = "/tree/"
    assert store("/a").read("x") == b"hi"
    assert sum("/tree/" in path for path in hub.asked) > 1


def test_a_pretrained_model_is_read_from_its_repository(hub, store, secret):
    files = {"config.json": b'{"model_type": "bert"}', "tokenizer.json": b"{}", "model.safetensors": b"", "model.py": b""}
    hub.repositories["models/team/minilm"] = Repository(files=files)
    named = store("@main", None, "hf://team/minilm")
    location = Location(uri=named.uri, secret_directory=str(secret({"HF_ENDPOINT": hub.address})))
    assert base.read(location).tokenizer == b"{}"
    assert named.names("*.safetensors") == ["model.safetensors"]


def test_a_hub_that_stays_away_is_told_after_a_minute(hub, store, monkeypatch):
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds

    opened = store("/a")
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    hub.away = 10_000
    with pytest.raises(StoreUnavailable, match=r"cannot read x: busy: check the store's address"):
        opened.read("x")
    assert 40 < clock[0] < 90


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "the secret does not exist or is empty: it needs HF_TOKEN or HF_ENDPOINT"),
        ({"HF_ENDPOINT": "hub.local"}, "HF_ENDPOINT of the secret is hub.local: it must begin with https://"),
    ],
)
def test_a_secret_that_opens_nothing_is_told(secret, keys, words):
    with pytest.raises(StoreRefused, match=words):
        Store(Location(uri="hf://team/models", secret_directory=str(secret(keys))))
