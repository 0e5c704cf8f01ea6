"""What holds of every store: whole files or none, a missing one told in words, and a model that comes back as it was saved."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from pyarrow.fs import FileSelector, LocalFileSystem, copy_files

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.tensors import Tensor

LARGE = 65 * 2**20
"""Bytes of a file that the libraries send in pieces."""


def test_what_is_written_is_read_back_and_replaced_whole(place):
    store = place.store("a/b")
    assert not store.exists("x")
    store.write("x", b"one")
    store.write("x", b"two")
    assert store.exists("x")
    assert store.read("x") == b"two"


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_file_that_is_sent_in_pieces_arrives_whole(place):
    content = bytes(range(256)) * (LARGE // 256)
    place.store("a").write("x.safetensors", content)
    assert place.store("a").read("x.safetensors") == content


def test_a_missing_file_says_what_to_check(place):
    with pytest.raises(
        StoreRefused, match=r"cannot read x: it is not there: check (bucket|container|repository), path and spelling"
    ):
        place.store("a").read("x")
    with pytest.raises(StoreRefused, match=r"no such file: check (bucket|container|repository), path and spelling"):
        place.store("a/x.csv").find()


def test_files_are_found_by_name_by_pattern_and_below_a_folder(place):
    for path in ("a/1.csv", "a/2.csv", "a/3.txt", "a/b/4.csv", "ab/5.csv"):
        folder, _, name = path.rpartition("/")
        place.store(folder).write(name, path.encode())
    root = place.store().path
    assert place.store("a/1.csv").find() == [f"{root}/a/1.csv"]
    assert place.store("a/*.csv").find() == [f"{root}/a/1.csv", f"{root}/a/2.csv"]
    assert [place.store().read_path(path) for path in place.store("a/*.csv").find()] == [b"a/1.csv", b"a/2.csv"]
    assert place.store("a").names("*.csv") == ["1.csv", "2.csv"]
    assert place.store("nothing").names("*.csv") == []
    assert place.store("a").find_below() == [f"{root}/a/{name}" for name in ("1.csv", "2.csv", "3.txt", "b/4.csv")]
    assert place.store("a/1.csv").find_below() == []
    assert place.store("nothing").find_below() == []


def test_what_is_removed_is_gone_and_the_rest_stays(place):
    for name in ("x", "y"):
        place.store("a").write(name, b"")
    place.store("a/b").write("z", b"")
    place.store("ab").write("x", b"")
    place.store("a").remove("x")
    assert place.store("a").names("[xy]") == ["y"]
    place.store("a").remove_folder()
    place.store("a").remove_folder()
    assert [path.removeprefix(place.store().path) for path in place.store().find_below()] == ["/ab/x"]


@pytest.mark.parametrize("place", ["s3", "gs", "abfs"], indirect=True)
def test_checkpoints_come_back_as_ray_train_has_put_them(place, tmp_path):
    """It copies folders by pyarrow, to the store and back, on workers that the filesystem is sent to."""
    for name in ("rank-0/weights.pt", "rank-1/weights.pt", "state.json"):
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text(name)
    store = place.store("checkpoints")
    store.make_folder()
    files = pickle.loads(pickle.dumps(store.arrow()))  # noqa: S301 - as Ray does
    folder = f"{store.path}/uid/checkpoint_1"
    files.create_dir(folder)
    copy_files(str(tmp_path / "there"), folder, source_filesystem=LocalFileSystem(), destination_filesystem=files)
    found = files.get_file_info(FileSelector(folder, recursive=True))
    assert sorted(info.path.removeprefix(folder) for info in found if info.is_file) == [
        "/rank-0/weights.pt",
        "/rank-1/weights.pt",
        "/state.json",
    ]
    (tmp_path / "back").mkdir()
    copy_files(folder, str(tmp_path / "back"), source_filesystem=files, destination_filesystem=LocalFileSystem())
    assert (tmp_path / "back/rank-1/weights.pt").read_text() == "rank-1/weights.pt"
    files.delete_dir(folder)
    assert place.store("checkpoints").find_below() == []


def test_a_job_saves_its_model_there_and_a_replica_serves_it(job, attempt, place):
    saved = attempt(job).model
    assert saved.uri == f"{place.uri}/model"
    assert read_bundle(place.store("model"), saved.digest).digest == saved.digest
    serving = {"resource": job.resource, "revision": "1", "name": "plane", "model": place.location("model")}
    served = load_model(ServingConfig.model_validate(serving | {"digest": saved.digest, "engine": "NumPy"}))
    [answers] = served.infer([Tensor("a", np.array([1.0, 2.0])), Tensor("b", np.array([0.0, 1.0]))]).values()
    assert len(answers) == 2
    assert not any("checkpoint" in path for path in place.store("model").find_below())


def test_an_attempt_of_a_pod_saves_its_model_and_ends(job, place, tmp_path):
    """As a process of its own: what the libraries leave running must not keep it."""
    (tmp_path / "config.json").write_text(job.model_dump_json(by_alias=True))
    environment = os.environ | {"EAGLERAY_CONFIG": str(tmp_path / "config.json"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "eagleray_runtime.training"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert f"{read_bundle(place.store('model')).digest} saved at {place.uri}/model" in ended.stderr.splitlines()[-1]
    # No line for each request.
    assert "127.0.0.1" not in ended.stderr


def test_a_second_attempt_only_reports_the_model_that_is_complete(job, attempt):
    first = attempt(job)
    again = attempt(job.model_copy(update={"attempt": 2}))
    assert (again.model, again.progress.resumed_from_epoch) == (first.model, first.progress.epochs)


@pytest.mark.parametrize("place", ["s3", "gs", "abfs"], indirect=True)
def test_a_model_whose_writer_died_before_the_last_file_is_none(job, attempt, place, monkeypatch):
    write = place.store().write.__func__

    def die(store, name, content):
        if name == "bundle.json":
            raise KeyboardInterrupt
        write(store, name, content)

    monkeypatch.setattr("eagleray_runtime.storage.store.Store.write", die)
    with pytest.raises(KeyboardInterrupt):
        attempt(job)
    with pytest.raises(StoreRefused, match=r"holds no complete bundle \(bundle.json is missing\)"):
        read_bundle(place.store("model"))
    monkeypatch.undo()
    assert read_bundle(place.store("model"), attempt(job.model_copy(update={"attempt": 2})).model.digest)
