import json
from pathlib import Path

import pytest
import yaml

from eagleray_operator import cli
from eagleray_operator.api import crd

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
ROOT = SAMPLES.parents[1]


def test_generated_definitions_are_found_to_be_current_and_a_changed_one_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "crds"
    assert cli.main(["generate", "crds", str(folder)]) == 0
    assert cli.main(["generate", "crds", "--check", str(folder)]) == 0
    file = folder / "trainingjobs.yaml"
    assert yaml.safe_load(file.read_text()) == json.loads(json.dumps(crd.definitions()["TrainingJob"]))
    file.write_text(file.read_text() + "# by hand\n")
    (folder / "modeldeployments.yaml").unlink()
    assert cli.main(["generate", "crds", "--check", str(folder)]) == 1
    told = capsys.readouterr().err
    assert "trainingjobs.yaml is not what the API says" in told
    assert "modeldeployments.yaml is not what the API says" in told


def test_rendering_prints_the_children_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", str(SAMPLES / "line.yaml")]) == 0
    output = capsys.readouterr().out
    children = {(child["kind"], child["metadata"]["name"]): child for child in yaml.safe_load_all(output) if child}
    assert {kind for kind, _ in children} == {"Secret", "NetworkPolicy", "PersistentVolumeClaim", "ConfigMap", "RayJob"}
    assert children["RayJob", "line-1"]["spec"]["submissionMode"] == "HTTPMode"
    [secret] = [child for (kind, _), child in children.items() if kind == "Secret"]
    assert secret["data"] == {"auth_token": "REDACTED"}
    assert json.loads(children["ConfigMap", "line-1-config"]["data"]["config.json"])["engine"] == "NumPy"
    assert "# ModelDeployment default/line has no children yet. TrainingJob line is not started." in output


def test_rendering_takes_the_settings_of_an_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"images": {"numpy": "registry/ours:1"}}')
    assert cli.main(["render", str(SAMPLES / "line.yaml"), "--settings", str(settings), "-n", "team"]) == 0
    output = capsys.readouterr().out
    assert "image: registry/ours:1" in output
    assert "# of TrainingJob team/line" in output


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_is_taken_by_local_mode_where_torch_is(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eagleray_operator.local import run

    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: object())
    assert run.load([str(sample)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("spec: {}", "apiVersion and kind is missing"),
        (
            "apiVersion: eagleray.io/v1alpha1\nkind: ModelDeployment\nmetadata: {name: a}\nspec: {model: {uri: 'file:///a'}}",
            "spec.model.uri: write s3, gs, abfs, hf or pvc://name/path",
        ),
    ],
)
def test_rendering_refuses_what_a_cluster_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(content)
    assert cli.main(["render", str(file)]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_running_with_torch_where_there_is_none_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eagleray_operator.local import run
    from eagleray_operator.local.manifests import ManifestError

    file = tmp_path / "line.yaml"
    file.write_text((SAMPLES / "line.yaml").read_text().replace("engine: NumPy", "engine: Torch"))
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ManifestError) as refused:
        run.load([str(file)])
    assert "engine Torch needs torch, which is not installed here: pip install 'eagleray[torch]'" in str(refused.value)


def test_the_operator_without_settings_says_which_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["operator", "--settings", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_a_family_that_only_torch_has_needs_it_for_the_job_and_for_what_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eagleray_operator.local import run
    from eagleray_operator.local.manifests import ManifestError

    file = tmp_path / "digits.yaml"
    file.write_text((SAMPLES / "digits.yaml").read_text())
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ManifestError) as refused:
        run.load([str(file)])
    assert str(refused.value).count("engine Torch needs torch") == 2
