"""Train, save, serve and ask, with a real Ray on this machine."""

import contextlib
import http.client
import json
import socket

import numpy as np
import pytest

from eagleray_runtime.contract.names import SERVE_APPLICATION, SERVING_IMPORT_PATH
from tests.runtime_ray.private_ray import run_python

pytestmark = pytest.mark.ray

RESOURCE = {"namespace": "team", "name": "flowers", "uid": "uid-1", "generation": 1}


def training_config(folder, **changes):
    random = np.random.default_rng(0)
    size = random.normal(size=(90, 2)) + np.repeat([[0, 0], [4, 0], [0, 4]], 30, axis=0)
    kinds = np.repeat(["iris", "rose", "tulip"], 30)
    rows = [f"{a:.4f},{b:.4f},{kind}" for (a, b), kind in zip(size, kinds, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["width,height,kind", *rows]))
    config = {
        "resource": RESOURCE | {"kind": "TrainingJob"},
        "attempt": 1,
        "engine": "NumPy",
        "data": {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "kind"},
        "dataFile": str(folder / "rows.csv"),
        "model": {"family": "LogisticRegression"},
        "training": {"epochs": 60, "optimizer": {"type": "Adam", "learningRate": 0.05}},
        "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
        "output": {"uri": f"file://{folder}/model"},
        "checkpoints": {"uri": f"file://{folder}/checkpoints"},
    }
    return config | changes


def train(config, folder, environment):
    path = folder / "training.json"
    path.write_text(json.dumps(config))
    ended = run_python("-m", "eagleray_runtime.training", environment=environment | {"EAGLERAY_CONFIG": str(path)})
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture(scope="module")
def port(ray):
    """Where Serve listens; what is served ends with the module, for it holds processors."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = taken.getsockname()[1]
    yield found
    ray.serve([], found)


def application(folder, name="flowers", **changes):
    config = {
        "resource": RESOURCE | {"kind": "ModelDeployment"},
        "revision": "r1",
        "name": name,
        "model": {"uri": f"file://{folder}/model"},
        "engine": "NumPy",
    }
    return {"name": SERVE_APPLICATION, "route_prefix": "/", "import_path": SERVING_IMPORT_PATH, "args": config | changes}


def test_a_trained_model_is_asked_through_public_clients(ray, port, tmp_path):
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    train(training_config(tmp_path), tmp_path, ray.environment)
    ray.serve([application(tmp_path)], port)

    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("flowers")
        metadata = client.get_model_metadata("flowers")
        assert metadata["parameters"]["engine"] == "NumPy"
        rows = InferInput("features", [3, 2], "FP64")
        rows.set_data_from_numpy(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
        answer = client.infer("flowers", [rows], request_id="7")
        assert answer.as_numpy("label").tolist() == [b"iris", b"rose", b"tulip"]
        assert answer.as_numpy("probabilities").sum(axis=1) == pytest.approx([1, 1, 1])
        assert answer.get_response()["id"] == "7"
        as_json = client.infer("flowers", [rows], outputs=[InferRequestedOutput("label", binary_data=False)])
        assert as_json.as_numpy("label").tolist() == ["iris", "rose", "tulip"]


def test_errors_have_the_shape_of_the_protocol_through_the_load_balancer(ray, port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/v2/models/flowers/infer", b"{}", {"Content-Type": "application/json", "X-Request-ID": "7"})
        answer = connection.getresponse()
        assert answer.status == 400
        assert list(json.loads(answer.read())) == ["error"]
        assert answer.headers["X-Request-ID"] == "7"
