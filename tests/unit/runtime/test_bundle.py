"""Bundles: complete or unseen, verified before anything is parsed."""

import json
import re

import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.errors import DigestMismatch, ModelInvalid, StoreRefused
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress


@pytest.fixture
def saved(job, tmp_path):
    config = job(training={"epochs": 3})
    result = driver.run(config, Progress(config, Reporter(None)))
    return result.model, Store(config.output), tmp_path / "model"


def test_a_bundle_reads_back_as_it_was_written(saved):
    model, store, folder = saved
    bundle = read_bundle(store, model.digest)
    assert bundle.digest == model.digest
    assert {name: values.shape for name, values in bundle.parameters.items()} == {
        "layers.0.weight": (1, 1),
        "layers.0.bias": (1,),
    }
    assert model.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_file_names_carry_their_content_s_digest(saved):
    _, _, folder = saved
    files = json.loads((folder / "bundle.json").read_text())["files"]
    assert all(re.search(r"-([0-9a-f]{16})\.", name)[1] == file["sha256"][:16] for name, file in files.items())


@pytest.mark.parametrize("pattern", ["model-*.safetensors", "MODEL_CARD-*.md", "loss-*.svg"])
def test_one_flipped_bit_is_found_and_its_file_named(saved, pattern):
    model, store, folder = saved
    (path,) = folder.glob(pattern)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatch, match=path.name):
        read_bundle(store, model.digest)


def test_a_flipped_bit_in_the_manifest_is_found_by_the_expected_digest(saved):
    model, store, folder = saved
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(DigestMismatch, match=r"bundle\.json has the digest"):
        read_bundle(store, model.digest)


def test_a_half_written_bundle_is_not_seen(saved):
    _, store, folder = saved
    (folder / "bundle.json").unlink()
    with pytest.raises(StoreRefused, match="holds no complete bundle"):
        read_bundle(store)


def test_the_manifest_is_written_last(job, tmp_path, monkeypatch):
    written = []
    write = Store.write
    monkeypatch.setattr(Store, "write", lambda self, name, content: (written.append(name), write(self, name, content))[1])
    config = job(training={"epochs": 1})
    driver.run(config, Progress(config, Reporter(None)))
    assert written[-1] == "bundle.json"
    assert len(written) == 5


def test_a_missing_file_is_told(saved):
    _, store, folder = saved
    next(folder.glob("model-*")).unlink()
    with pytest.raises(StoreRefused, match="cannot read model-"):
        read_bundle(store)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b"])
def test_a_manifest_cannot_name_files_outside_its_folder(saved, name):
    _, store, folder = saved
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelInvalid, match="not a manifest that this version reads: files"):
        read_bundle(store)


def test_a_manifest_of_a_later_version_is_refused(saved):
    _, store, folder = saved
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"schemaVersion": 1', '"schemaVersion": 2'))
    with pytest.raises(ModelInvalid, match="schemaVersion"):
        read_bundle(store)


def test_a_bundle_of_before_architectures_had_kinds_is_read_as_dense_layers(saved):
    _, store, folder = saved
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    assert manifest["architecture"].pop("kind") == "Dense"
    path.write_text(json.dumps(manifest))
    assert isinstance(read_bundle(store).manifest.architecture, Dense)
    manifest["architecture"]["kind"] = "Quantum"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelInvalid, match="architecture"):
        read_bundle(store)
