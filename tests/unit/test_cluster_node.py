"""The parts of the one-node Kubernetes that decide something without a node: keys, identities, what to clean up."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cluster import base_image, launch, leftovers, machine
from tests.cluster.archives import StaticImage, prepare_layout, write_layout
from tests.cluster.components import kubelet_configuration, name_service
from tests.cluster.controlplane import LOOPBACK, ControlPlaneProcesses, Ports
from tests.cluster.errors import ClusterError, UnavailableError
from tests.cluster.layout import REPOSITORY, NodeLayout
from tests.cluster.modules import ALL, KUBERNETES, GoModule
from tests.cluster.processes import Daemon, Identity
from tests.cluster.project_images import IMAGES, content_key, copied_paths
from tests.cluster.waiting import wait_until


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    monkeypatch.setattr("tests.cluster.modules.GO_MODULES", tmp_path)
    folder = tmp_path / "thing"
    folder.mkdir()
    (folder / "go.mod").write_text("module x\n\nrequire (\n\texample.org/thing v1.22.3\n)\n")
    (folder / "go.sum").write_text("")
    return GoModule("thing", ("thing",))


class TestBuildKeys:
    def test_a_key_changes_with_the_sums_and_with_nothing_else(self, module: GoModule) -> None:
        before = module.key()
        assert module.key() == before
        (module.folder / "go.sum").write_text("example.org/thing v1.22.3 h1:other\n")
        assert module.key() != before

    def test_a_key_changes_with_how_it_is_built(self, module: GoModule) -> None:
        keys = {module.key(), GoModule("thing", ("thing",), version_of="example.org/thing").key()}
        keys.add(GoModule("thing", ("thing",), package=".").key())
        assert len(keys) == 3

    def test_programs_are_told_the_version_that_go_mod_requires(self, module: GoModule) -> None:
        flags = GoModule("thing", ("thing",), version_of="example.org/thing").link_flags()
        assert "gitVersion=v1.22.3" in flags
        assert "gitMinor=22" in flags

    def test_a_version_that_is_not_required_is_an_error(self, module: GoModule) -> None:
        with pytest.raises(ClusterError, match=r"does not require example\.org/other"):
            module.required_version("example.org/other")

    def test_every_module_is_locked(self) -> None:
        for module in ALL:
            text = (module.folder / "go.mod").read_text()
            assert ("require" in text) == (module.folder / "go.sum").exists(), module.name
        assert KUBERNETES.required_version("k8s.io/kubernetes").startswith("v1.")


class TestImageKeys:
    DOCKERFILE = "FROM a AS b\nCOPY pyproject.toml \\\n  LICENSE /src/\nCOPY --chown=1:1 code /src/code\nCOPY --from=b /x /y\n"

    def test_only_the_context_counts_as_copied(self) -> None:
        assert copied_paths(self.DOCKERFILE) == ["pyproject.toml", "LICENSE", "code"]

    def test_a_key_follows_what_is_copied(self, tmp_path: Path) -> None:
        image = IMAGES["operator"]
        (tmp_path / "operator").mkdir()
        (tmp_path / image.dockerfile).write_text(self.DOCKERFILE)
        (tmp_path / "code" / "__pycache__").mkdir(parents=True)
        for name in ("pyproject.toml", "LICENSE", "code/a.py"):
            (tmp_path / name).write_text("1")
        key = content_key(image, tmp_path, "base")
        (tmp_path / "other.py").write_text("not copied")
        (tmp_path / "code" / "__pycache__" / "a.pyc").write_text("left out")
        assert content_key(image, tmp_path, "base") == key
        assert content_key(image, tmp_path, "another base") != key
        (tmp_path / "code" / "a.py").write_text("2")
        assert content_key(image, tmp_path, "base") != key

    @pytest.mark.parametrize("name", sorted(IMAGES))
    def test_our_dockerfiles_have_the_stages_that_are_built(self, name: str) -> None:
        image = IMAGES[name]
        text = (REPOSITORY / image.dockerfile).read_text()
        for stage in (*image.kept_stages, image.target):
            assert f" AS {stage}\n" in text
        for path in copied_paths(text):
            assert (REPOSITORY / path).exists()


class TestProcesses:
    def test_a_record_of_another_process_with_the_same_id_is_stale(self) -> None:
        pid, started = os.getpid(), launch.start_time(os.getpid())
        assert started is not None
        assert Identity(pid, started, launch.boot_id()).alive()
        assert not Identity(pid, started - 1, launch.boot_id()).alive()
        assert not Identity(pid, started, "an earlier boot").alive()

    def test_a_name_with_blanks_and_parentheses_does_not_shift_the_fields(self, tmp_path: Path) -> None:
        program = tmp_path / "a) Z (b"
        program.symlink_to("/bin/sleep")
        with subprocess.Popen([program, "30"]) as process:
            assert launch.start_time(process.pid) is not None
            process.kill()

    def test_a_daemon_is_on_record_when_start_returns_and_gone_when_stop_does(self, tmp_path: Path) -> None:
        daemon = Daemon("sleeper", tmp_path / "records", tmp_path / "logs")
        daemon.start([sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(60)"])
        assert daemon.alive()
        identity = daemon.identity()
        wait_until(lambda: "hello" in daemon.last_words(), "its first words", seconds=10)
        daemon.start(["/nonexistent"])
        assert daemon.identity() == identity
        daemon.stop(grace=5)
        assert not daemon.alive()
        assert not daemon.record.exists()

    def test_a_stale_record_is_dropped_without_touching_the_process_that_has_the_id_now(self, tmp_path: Path) -> None:
        daemon = Daemon("other", tmp_path, tmp_path)
        daemon.record.write_text(json.dumps({"pid": os.getpid(), "start_time": 1, "boot_id": launch.boot_id()}))
        daemon.stop(grace=0)
        assert not daemon.record.exists()

    def test_a_record_cut_short_counts_as_none(self, tmp_path: Path) -> None:
        daemon = Daemon("cut", tmp_path, tmp_path)
        daemon.record.write_text('{"pid": 1')
        assert daemon.identity() is None

    def test_an_end_is_told_with_the_last_words(self, tmp_path: Path) -> None:
        daemon = Daemon("short", tmp_path, tmp_path)
        daemon.start([sys.executable, "-c", "raise SystemExit('no such port')"])
        with pytest.raises(ClusterError, match="no such port"):
            wait_until(lambda: False, "short", seconds=10, still_possible=daemon.why_not_alive)


class TestCleaning:
    def test_mounts_below_a_folder_are_listed_deepest_first(self) -> None:
        table = "\n".join(f"1 2 0:1 / {point} rw - tmpfs tmpfs rw" for point in ("/a", "/a/b", "/ab", "/a/b/c\\040d", "/proc"))
        assert leftovers.mounts_below(Path("/a"), table) == [Path("/a/b/c d"), Path("/a/b"), Path("/a")]

    def test_two_nodes_never_share_a_name(self, tmp_path: Path) -> None:
        assert NodeLayout(tmp_path / "a").name != NodeLayout(tmp_path / "b").name


class TestCommandLines:
    def processes(self, address: str, bind: str) -> ControlPlaneProcesses:
        folder = Path("/state")
        return ControlPlaneProcesses(folder, folder, address, bind, Ports(1, 2, 3), folder / "k", folder, folder, ("in",))

    def test_alone_everything_listens_on_loopback(self) -> None:
        plane = self.processes(LOOPBACK, LOOPBACK)
        assert "--bind-address=127.0.0.1" in plane.apiserver_command()
        assert "--endpoint-reconciler-type=none" in plane.apiserver_command()
        urls = [word for word in plane.etcd_command() if "urls" in word]
        assert all("//127.0.0.1:" in word for word in urls)

    def test_every_command_runs_inside_the_namespace(self) -> None:
        plane = self.processes("10.0.0.1", "0.0.0.0")  # noqa: S104 - text only
        for command in (plane.etcd_command(), plane.apiserver_command(), plane.kubectl_command("get")):
            assert command[0] == "in"

    def test_the_kubelet_deletes_no_images_by_share_of_the_disk(self, tmp_path: Path) -> None:
        settings = kubelet_configuration(NodeLayout(tmp_path), tmp_path / "socket")
        assert settings["imageGCHighThresholdPercent"] == 100
        assert "%" not in json.dumps(settings["evictionHard"])

    def test_unknown_names_are_answered_outside_the_clusters_zone(self) -> None:
        cluster, rest = name_service(Path("/k")).split("\n\n")
        assert "template" not in cluster
        assert "NXDOMAIN" in rest


class TestArchives:
    def test_equal_content_gives_an_equal_image(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_bytes(b"1")
        image = StaticImage("localhost/x:dev", {"/bin/x": program}, links={"/bin/y": "x"}, entrypoint=["/bin/x"])
        first, second = io.BytesIO(), io.BytesIO()
        image.write(first)
        os.utime(program, (0, 0))
        image.write(second)
        assert first.getvalue() == second.getvalue()
        key = image.key()
        program.write_bytes(b"2")
        assert image.key() != key
        first.seek(0)
        with tarfile.open(fileobj=first) as archive:
            layer = archive.extractfile("layer.tar")
            assert layer is not None
            with tarfile.open(fileobj=io.BytesIO(layer.read())) as content:
                assert content.getmember("bin/y").linkname == "x"
                assert content.getmember("bin/x").mode == 0o755

    def test_blobs_that_are_known_are_holes_and_are_not_sent(self, tmp_path: Path) -> None:
        layout = tmp_path / "layout"
        prepare_layout(layout, {"sha256:aa": 1 << 30})
        blobs = layout / "blobs" / "sha256"
        assert (blobs / "aa").stat().st_size == 1 << 30
        assert (blobs / "aa").stat().st_blocks == 0
        (blobs / "bb").write_bytes(b"new")
        (layout / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:bb"}]}))
        sink = io.BytesIO()
        write_layout(layout, "localhost/x:dev", ["sha256:aa"], sink)
        sink.seek(0)
        with tarfile.open(fileobj=sink) as archive:
            assert sorted(archive.getnames()) == ["blobs/sha256/bb", "index.json", "oci-layout"]
            index = archive.extractfile("index.json")
            assert index is not None
            assert json.load(index)["manifests"][0]["annotations"] == {"io.containerd.image.name": "localhost/x:dev"}


class TestMachine:
    def test_what_is_missing_is_named(self) -> None:
        with pytest.raises(UnavailableError, match="no-such-program is missing"):
            machine.require_programs("sh", "no-such-program")

    def test_a_full_disk_is_told_before(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="1000000 GiB are needed"):
            machine.require_room(tmp_path, 1_000_000)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("debian.sources", "Types: deb\nURIs: http://m.test/debian\nSuites: bookworm bookworm-updates\n"),
            ("debian.list", "deb [signed-by=/k] http://m.test/debian bookworm main\n"),
        ],
    )
    def test_the_machines_own_mirror_is_used(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / "sources.list.d").mkdir()
        (tmp_path / "sources.list.d" / name).write_text(text)
        assert base_image.mirror(tmp_path) == ["http://m.test/debian"]

    def test_a_machine_of_another_release_leaves_the_choice_to_debootstrap(self, tmp_path: Path) -> None:
        (tmp_path / "sources.list").write_text("deb http://m.test/debian trixie main\n")
        assert base_image.mirror(tmp_path) == []
