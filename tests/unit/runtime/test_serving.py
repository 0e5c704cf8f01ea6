"""The Open Inference Protocol against the ASGI application itself."""

import asyncio
import json
import struct
import threading

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.data.loading import load
from eagleray_runtime.errors import DigestMismatch
from eagleray_runtime.models.network import Network
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving import protocol
from eagleray_runtime.serving.model import ServedModel, load_model
from eagleray_runtime.serving.protocol import OpenInference
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

PLANE = ["a,b,y", *(f"{a},{b},{2 * a - b + 1}" for a in range(10) for b in range(10))]
FLOWERS = [
    "size,colour,y",
    *(f"{value},{'red' if value % 2 else 'blue'},{'rose' if value > 20 else 'iris'}" for value in range(40)),
]

SIZES = ["size,y", *(f"{value},{'rose' if value > 20 else 'iris'}" for value in range(40))]


class Notes:
    def __init__(self):
        self.statuses = []

    def answered(self, status, seconds):
        assert seconds >= 0
        self.statuses.append(status)


class Client:
    """Sends requests to an application without a server between them."""

    def __init__(self, config, root_path=""):
        self.config = config
        self.meter = Notes()
        self.model = load_model(config)
        self.app = OpenInference(self.model, self.meter)
        self.root_path = root_path
        self.leaving = asyncio.Event()

    async def __call__(self, method, path, body=b"", headers=(), pieces=1):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        size = -(-len(body) // pieces) or 1
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
        ]
        sent = []

        async def receive():
            if messages:
                return messages.pop(0)
            await self.leaving.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "root_path": self.root_path, "headers": list(headers)}
        await self.app(scope, receive, send)
        start, answer = sent
        self.headers = dict(start["headers"])
        assert self.headers[b"content-length"] == str(len(answer["body"])).encode()
        return start["status"], answer["body"]

    async def infer(self, body, **options):
        status, answer = await self("POST", f"/v2/models/{self.model.name}/infer", body, **options)
        return status, json.loads(answer)


@pytest.fixture
def served(job):
    """Train on rows and serve the bundle."""

    def make(rows, family, root_path="", **training):
        config = job(rows, family=family, training={"epochs": 200, "optimizer": {"learningRate": 0.05}} | training)
        result = driver.run(config, Progress(config, Reporter(None)))
        serving = ServingConfig(
            resource={"kind": "ModelDeployment", "namespace": "team", "name": "m", "uid": "u", "generation": 1},
            revision="r1",
            name="m",
            model=config.output,
            digest=result.model.digest,
            engine="NumPy",
        )
        return Client(serving, root_path)

    return make


@pytest.fixture
def plane(served):
    return served(PLANE, "LinearRegression")


@pytest.fixture
def flowers(served):
    return served(FLOWERS, "LogisticRegression")


def tensor(data, shape, name="features", datatype="FP64", **extra):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data} | extra


def column(name, data, datatype="FP64"):
    return tensor(data, [len(data)], name, datatype)


async def test_the_server_says_what_it_is_and_that_it_is_ready(plane):
    for path, part in {
        "/v2": {"name": "eagleray", "extensions": ["binary_tensor_data"]},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/m/ready": {"name": "m", "ready": True},
        "/v2/models/m/versions/r1/ready": {"name": "m", "ready": True},
    }.items():
        status, body = await plane("GET", path)
        assert status == 200
        assert json.loads(body).items() >= part.items()


async def test_metadata_carries_signature_digest_and_engine(plane):
    status, body = await plane("GET", "/v2/models/m")
    metadata = json.loads(body)
    assert status == 200
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 2]}]
    assert metadata["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    assert metadata["versions"] == ["r1"]
    assert metadata["parameters"] == {
        "digest": plane.model.metadata["parameters"]["digest"],
        "engine": "NumPy",
        "family": "LinearRegression",
        "revision": "r1",
        "device": "cpu",
    }
    assert metadata["parameters"]["digest"].startswith("sha256:")


async def test_metadata_of_text_columns_is_a_tensor_a_column(flowers):
    metadata = json.loads((await flowers("GET", "/v2/models/m"))[1])
    assert [(item["name"], item["datatype"], item["shape"]) for item in metadata["inputs"]] == [
        ("size", "FP64", [-1]),
        ("colour", "BYTES", [-1]),
    ]
    assert [(item["name"], item["datatype"], item["shape"]) for item in metadata["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("probabilities", "FP64", [-1, 2]),
    ]


@pytest.mark.parametrize(
    "inputs",
    [
        [tensor([3, 4, 0, 0], [2, 2])],
        [tensor([[3, 4], [0, 0]], [2, 2])],
        [tensor([3, 4, 0, 0], [2, 2], datatype="INT64")],
        [tensor([3.0, 4.0, 0.0, 0.0], [2, 2], datatype="FP32")],
        [column("b", [4, 0]), column("a", [3, 0])],
        [tensor([4, 0], [2, 1], "b"), column("a", [3, 0], "UINT8")],
        [tensor([[4], [0]], [2], "b"), tensor([[3, 0]], [2, 1], "a")],
    ],
    ids=["flat", "nested", "whole numbers", "single precision", "by column", "by column in a matrix", "in lists of one"],
)
async def test_numeric_rows_may_come_as(plane, inputs):
    status, answer = await plane.infer({"id": "7", "inputs": inputs})
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("m", "r1", "7")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", "FP64", [2])
    assert output["data"] == pytest.approx([3, 1], abs=0.2)


async def test_classes_come_with_their_probabilities(flowers):
    status, answer = await flowers.infer({"inputs": [column("size", [0, 39]), column("colour", ["red", "blue"], "BYTES")]})
    label, probabilities = answer["outputs"]
    assert (status, label["data"]) == (200, ["iris", "rose"])
    rows = np.array(probabilities["data"]).reshape(probabilities["shape"])
    assert rows.sum(axis=1) == pytest.approx([1, 1])
    assert rows.argmax(axis=1).tolist() == [0, 1]


async def test_only_the_outputs_that_are_asked_for_are_sent_in_that_order(flowers):
    body = {"inputs": [column("size", [0]), column("colour", ["red"], "BYTES")]}
    _, answer = await flowers.infer(body | {"outputs": [{"name": "probabilities"}, {"name": "label"}]})
    assert [output["name"] for output in answer["outputs"]] == ["probabilities", "label"]


async def test_null_may_stand_in_nested_rows(plane):
    flat = await plane.infer({"inputs": [tensor([None, 4, 1, None], [2, 2])]})
    assert flat[0] == 200
    assert await plane.infer({"inputs": [tensor([[None, 4], [1, None]], [2, 2])]}) == flat


async def test_null_is_a_missing_value_and_is_filled_as_in_training(plane):
    mean = read_bundle(Store(plane.config.model)).manifest.preparation.numeric[0].fill
    _, answer = await plane.infer({"inputs": [tensor([None, 4, mean, 4], [2, 2])]})
    missing, filled = answer["outputs"][0]["data"]
    assert missing == filled


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
async def test_numbers_that_overflow_are_refused_by_the_name_of_their_column(plane):
    status, answer = await plane.infer({"inputs": [tensor([3, 4, 1.7e308, 3], [2, 2])]})
    assert status == 400
    assert "the model's answer is not finite: of its inputs a holds the number that is farthest" in answer["error"]


async def test_a_request_of_curl_needs_no_content_type(plane):
    status, _ = await plane.infer({"inputs": [X]}, headers=[(b"content-type", b"application/x-www-form-urlencoded")])
    assert status == 200


async def test_no_rows_give_no_predictions(plane):
    _, answer = await plane.infer({"inputs": [tensor([], [0, 2])]})
    assert answer["outputs"][0]["shape"] == [0]


async def test_a_body_in_pieces_is_put_together(plane):
    status, _ = await plane.infer({"inputs": [tensor([3, 4], [1, 2])]}, pieces=5)
    assert status == 200


@pytest.fixture
def threads(monkeypatch):
    """The threads in which requests were read, and those in which they were computed; True is the event loop's."""
    found = {"read": [], "computed": []}

    def noting(step, function):
        def note(*args):
            found[step].append(threading.current_thread() is threading.main_thread())
            return function(*args)

        return note

    monkeypatch.setattr(protocol, "decode", noting("read", protocol.decode))
    monkeypatch.setattr(ServedModel, "infer", noting("computed", ServedModel.infer))
    return found


@pytest.mark.parametrize(
    ("name", "value", "read", "computed"),
    [
        ("LONG_WORK", protocol.LONG_WORK, True, True),
        ("LONG_WORK", 1, True, False),
        ("LARGE_BODY", 10, False, False),
    ],
    ids=["a small request", "long work", "a large body"],
)
async def test_what_takes_long_is_done_beside_the_event_loop(plane, threads, monkeypatch, name, value, read, computed):
    monkeypatch.setattr(protocol, name, value)
    status, answer = await plane.infer({"inputs": [tensor([3, 4], [1, 2])]})
    assert (status, threads) == (200, {"read": [read], "computed": [computed]})
    assert answer["outputs"][0]["data"] == pytest.approx([3], abs=0.2)


async def test_a_mistake_in_a_large_body_is_told_as_in_a_small_one(plane, monkeypatch):
    monkeypatch.setattr(protocol, "LARGE_BODY", 10)
    status, answer = await plane.infer({"inputs": [tensor([3, 4], [2, 2])]})
    assert (status, answer["error"]) == (400, "input features: 2 values do not fill the shape [2, 2]")


async def test_the_bundles_own_example_is_answered(flowers):
    status, _ = await flowers.infer(flowers.model.example)
    assert status == 200


X = tensor([3, 4], [1, 2])
REFUSED = {
    "is not JSON": (b"{", "not JSON"),
    "is a list": ([], "list of inputs"),
    "has no inputs": ({}, "list of inputs"),
    "has an empty list of inputs": ({"inputs": []}, "list of inputs"),
    "has an input that is no object": ({"inputs": [1]}, "object with a name"),
    "has an input without data": ({"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64"}]}, "data is missing"),
    "has an unknown datatype": ({"inputs": [X | {"datatype": "FP8"}]}, "datatype FP8"),
    "has a datatype that is no name": ({"inputs": [X | {"datatype": []}]}, "datatype"),
    "has no shape": ({"inputs": [X | {"shape": None}]}, "shape must be"),
    "has a negative size": ({"inputs": [X | {"shape": [-1, 2]}]}, "shape must be"),
    "has values that do not fill the shape": ({"inputs": [X | {"shape": [2, 2]}]}, "2 values do not fill the shape"),
    "has another number of columns": ({"inputs": [tensor([1, 2, 3], [1, 3])]}, r"expected \[-1, 2\], the columns a, b"),
    "has rows without a second dimension": ({"inputs": [tensor([1, 2], [2])]}, "expected"),
    "has text for numbers": ({"inputs": [tensor(["3", "4"], [1, 2])]}, "must hold numbers"),
    "has one text among numbers": ({"inputs": [tensor([3, "4"], [1, 2])]}, "must hold numbers"),
    "has rows of unequal length": ({"inputs": [tensor([[3], [4, 5]], [1, 2])]}, "lists of equal length"),
    "has rows nested otherwise than the shape says": (
        {"inputs": [tensor([[1, 2, 3], [4, 5, 6]], [3, 2])]},
        r"features: data is nested as \[2, 3\], and shape says \[3, 2\]",
    ),
    "has a missing value in rows nested otherwise": ({"inputs": [tensor([[1, None, 3], [4, 5, 6]], [3, 2])]}, "is nested as"),
    "has texts nested otherwise": (
        {"inputs": [tensor([["a", None, ""], ["b", "c", "d"]], [3, 2], datatype="BYTES")]},
        r"nested as \[2, 3\]",
    ),
    "has texts in lists of unequal length": (
        {"inputs": [tensor([["a"], ["b", "c"]], [3], datatype="BYTES")]},
        "flat or in lists of equal length",
    ),
    "has a number among texts": ({"inputs": [tensor(["a", 0], [2], datatype="BYTES")]}, "must hold strings"),
    "has BYTES for numbers": ({"inputs": [tensor(["3", "4"], [1, 2], datatype="BYTES")]}, "is BYTES, expected a number"),
    "lacks a column": ({"inputs": [column("a", [1])]}, "inputs missing: b"),
    "has an unknown input": ({"inputs": [column("z", [1])]}, "input z is not one of the model"),
    "has an input twice": ({"inputs": [column("a", [1]), column("a", [1])]}, "given twice"),
    "has columns of unequal length": ({"inputs": [column("a", [1, 2]), column("b", [1])]}, "1 rows"),
    "asks for an unknown output": ({"inputs": [X], "outputs": [{"name": "z"}]}, "output z"),
    "asks for outputs by a word": ({"inputs": [X], "outputs": "prediction"}, "outputs must be a list"),
    "asks for the classification extension": (
        {"inputs": [X], "outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
        "classification extension",
    ),
    "names an output by a list": ({"inputs": [X], "outputs": [{"name": []}]}, r"output \[\] is not one of the model"),
    "names an output by an object": ({"inputs": [X], "outputs": [{"name": {}}]}, "output {} is not one of the model"),
    "has parameters of an output in a list": (
        {"inputs": [X], "outputs": [{"name": "prediction", "parameters": ["x"]}]},
        "output prediction: parameters must be an object",
    ),
    "has a number as parameters of an output": (
        {"inputs": [X], "outputs": [{"name": "prediction", "parameters": 3}]},
        "output prediction: parameters must be an object",
    ),
    "has parameters of an input in a list": (
        {"inputs": [X | {"parameters": ["binary_data_size"]}]},
        "input features: parameters must be an object",
    ),
    "has a number as parameters of an input": ({"inputs": [X | {"parameters": 3}]}, "input features: parameters must be"),
    "has a word as parameters": ({"inputs": [X], "parameters": "x"}, "the request: parameters must be an object"),
    "has an id that is no string": ({"id": 7, "inputs": [X]}, "id must be a string"),
    "has binary data without any": (
        {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}]},
        "binary_data_size 16",
    ),
}


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_request_is_answered_400_that(plane, body, words):
    status, answer = await plane.infer(body)
    assert status == 400
    assert list(answer) == ["error"]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(answer["error"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "words"),
    [
        ("GET", "/v2/models/other", {}, 404, "model other is not served here: this is m"),
        ("POST", "/v2/models/other/infer", {}, 404, "model other"),
        ("POST", "/v2/models/m/versions/r9/infer", {}, 404, "version r9"),
        ("GET", "/v3", {}, 404, "not a path"),
        ("GET", "/v2/models/m/infer", {}, 405, "takes POST"),
        ("POST", "/v2/models/m", {}, 405, "takes GET"),
        ("POST", "/v2/models/m/infer", {b"content-type": b"text/plain"}, 415, "content type text/plain"),
        ("POST", "/v2/models/m/infer", {b"content-encoding": b"gzip"}, 415, "compressed"),
        ("POST", "/v2/models/m/infer", {b"content-length": b"999999999"}, 413, "larger than"),
        ("POST", "/v2/models/m/infer", {b"content-length": b"9" * 5000}, 413, "larger than"),
        ("POST", "/v2/models/m/infer", {b"inference-header-content-length": b"9" * 5000}, 400, "must be the length of the JSON"),
        ("POST", "/v2/models/m/infer", {b"inference-header-content-length": b"-1"}, 400, "must be the length of the JSON"),
    ],
)
async def test_other_mistakes_have_a_status_of_their_own(plane, method, path, headers, status, words):
    found, body = await plane(method, path, b"{}", headers.items())
    assert found == status
    assert words in json.loads(body)["error"]


async def test_a_body_that_grows_too_large_is_cut_off(plane, monkeypatch):
    monkeypatch.setattr(protocol, "LARGEST_BODY", 10)
    status, _ = await plane.infer({"inputs": [X]}, pieces=10)
    assert status == 413


async def test_the_binary_extension_carries_numbers_both_ways(plane):
    blob = struct.pack("<4f", 3, 4, 0, 0)
    head = json.dumps(
        {
            "inputs": [{"name": "features", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = [(b"inference-header-content-length", str(len(head)).encode()), (b"content-type", b"application/octet-stream")]
    status, body = await plane("POST", "/v2/models/m/infer", head + blob, headers)
    length = int(plane.headers[b"inference-header-content-length"])
    assert status == 200
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", body[length:]) == pytest.approx([3, 1], abs=0.2)


async def test_the_binary_extension_carries_text_both_ways(flowers):
    blobs = struct.pack("<d", 39.0), struct.pack("<I", 4) + b"blue"
    head = json.dumps(
        {
            "inputs": [
                {"name": "size", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
                {"name": "colour", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}},
            ],
            "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = [(b"inference-header-content-length", str(len(head)).encode())]
    _, body = await flowers("POST", "/v2/models/m/infer", head + b"".join(blobs), headers)
    assert body.endswith(struct.pack("<I", 4) + b"rose")


@pytest.mark.parametrize(
    ("blob", "size", "words"),
    [
        (b"\0" * 15, 15, "not a multiple"),
        (b"\0" * 16, 17, "does not fit"),
        (b"\0" * 20, 16, "4 bytes after the tensors"),
        (struct.pack("<2d", 1, float("inf")), 16, "infinity"),
    ],
)
async def test_binary_tensors_that_do_not_fit_are_refused(plane, blob, size, words):
    head = json.dumps(
        {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": size}}]}
    ).encode()
    headers = [(b"inference-header-content-length", str(len(head)).encode())]
    status, body = await plane("POST", "/v2/models/m/infer", head + blob, headers)
    assert status == 400
    assert words in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("root_path", "path"),
    [("", "/v2/models/m/infer"), ("/team/m", "/team/m/v2/models/m/infer"), ("/v2/models/m", "/v2/models/m/infer")],
)
async def test_the_application_may_be_mounted_below_a_prefix(served, root_path, path):
    client = served(PLANE, "LinearRegression", root_path)
    status, _ = await client("POST", path, {"inputs": [X]})
    assert status == 200


async def test_inference_is_counted_by_status_and_nothing_else_is(plane):
    await plane("GET", "/v2")
    await plane.infer({"inputs": [X]})
    await plane.infer({})
    assert plane.meter.statuses == [200, 400]


async def test_an_error_that_nothing_expects_is_answered_counted_and_logged(plane, monkeypatch, caplog):
    def infer(*_):
        raise TypeError("half a model")

    monkeypatch.setattr(plane.model, "infer", infer)
    status, answer = await plane.infer({"inputs": [X]})
    assert (status, plane.meter.statuses) == (500, [500])
    assert "an unexpected error (TypeError: half a model): the replica's log tells where" in answer["error"]
    assert 'raise TypeError("half a model' in caplog.text


@pytest.fixture
async def endless(plane, monkeypatch):
    """A model that goes on until it hears that the client has gone, and then has come to its end."""
    ended = threading.Event()

    def infer(_tensors, _parameters, gone):
        loop.call_soon_threadsafe(plane.began.set)
        assert gone.wait(60)
        ended.set()
        return {"prediction": np.zeros(1)}

    loop = asyncio.get_running_loop()
    plane.began, plane.ended = asyncio.Event(), ended
    monkeypatch.setattr(protocol, "LONG_WORK", 1)
    monkeypatch.setattr(plane.model, "infer", infer)
    return plane


async def test_a_model_stops_and_the_request_is_counted_when_the_client_goes(endless):
    request = asyncio.create_task(endless.infer({"inputs": [X]}))
    await endless.began.wait()
    endless.leaving.set()
    status, answer = await request
    assert (status, answer["error"]) == (499, "the client went away before it was answered")
    assert endless.ended.is_set()
    assert endless.meter.statuses == [499]


async def test_a_model_stops_and_the_request_is_counted_when_it_is_cancelled(endless):
    request = asyncio.create_task(endless.infer({"inputs": [X]}))
    await endless.began.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await asyncio.to_thread(endless.ended.wait, 60)
    assert endless.meter.statuses == [499]


async def test_a_client_that_goes_before_its_request_is_complete_is_counted_as_gone(plane):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    await plane.app({"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}, receive, send)
    assert plane.meter.statuses == [499]


async def test_lifespan_is_answered(plane):
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    await plane.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_row_is_prepared_alike_in_training_and_in_serving(job, served):
    client = served(FLOWERS, "MultilayerPerceptron")
    config = job(FLOWERS, family="MultilayerPerceptron")
    dataset = load(config)
    bundle = read_bundle(Store(config.output))
    network = Network(bundle.manifest.architecture, bundle.parameters)
    expected = network.forward(dataset.training.x)
    rows = [line.split(",") for line in FLOWERS[1:]]
    inputs = [column("size", [float(size) for size, _, _ in rows]), column("colour", [colour for _, colour, _ in rows], "BYTES")]
    _, answer = await client.infer({"inputs": inputs})
    probabilities = np.array(answer["outputs"][1]["data"]).reshape(-1, 2)
    seen = {tuple(row) for row in np.round(np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True), 12)}
    assert seen <= {tuple(row) for row in np.round(probabilities, 12)}


def test_a_bundle_that_is_not_the_expected_one_is_not_served(plane, job):
    config = job(PLANE)
    serving = ServingConfig(
        resource={"kind": "ModelDeployment", "namespace": "team", "name": "m", "uid": "u", "generation": 1},
        revision="r1",
        name="m",
        model=config.output,
        digest="sha256:" + "0" * 64,
        engine="NumPy",
    )
    with pytest.raises(DigestMismatch):
        load_model(serving)


async def test_a_perceptron_answers_with_scores_instead_of_probabilities(served):
    client = served(SIZES, "Perceptron", optimizer={"type": "SGD"})
    _, metadata = await client("GET", "/v2/models/m")
    assert [output["name"] for output in json.loads(metadata)["outputs"]] == ["label", "scores"]
    _, answer = await client.infer({"inputs": [tensor([2.0, 39.0], [2, 1])]})
    label, scores = answer["outputs"]
    assert label["data"] == ["iris", "rose"]
    assert scores["shape"] == [2, 2]
    assert scores["data"][0] > scores["data"][1]


async def test_one_output_for_two_classes_answers_with_both_probabilities(served):
    client = served(SIZES, "LogisticRegression", loss={"type": "BinaryCrossEntropy"})
    assert client.model.work == 2, "one weight and one bias"
    _, answer = await client.infer({"inputs": [tensor([2.0, 39.0], [2, 1])]})
    label, probabilities = answer["outputs"]
    assert label["data"] == ["iris", "rose"]
    assert np.array(probabilities["data"]).reshape(2, 2).sum(axis=1) == pytest.approx([1, 1])
    assert probabilities["data"][0] > 0.9
    assert probabilities["data"][3] > 0.9
