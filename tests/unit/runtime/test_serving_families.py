"""The Open Inference Protocol of the families that only torch has: images, pictures, windows and text."""

import asyncio
import base64
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.errors import DigestMismatch, ModelInvalid
from eagleray_runtime.serving.model import load_model
from tests.support.pictures import striped
from tests.support.texts import reviews
from tests.support.torch_runs import HereRun
from tests.unit.runtime.test_serving import FLOWERS, Client

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

NOT_FINITE = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


def serving(config, engine="Torch"):
    resource = {"kind": "ModelDeployment", "namespace": "team", "name": "m", "uid": "u", "generation": 1}
    return ServingConfig(resource=resource, revision="r1", name="m", model=config.output, engine=engine)


def trained(config, data):
    """Train on the data, write the bundle and serve it."""
    config = config.model_copy(update={"data": blocks.Data.model_validate(data)})
    HereRun(config).to_the_end().save()
    return Client(serving(config))


@pytest.fixture
def stripes(job, tmp_path, folder):
    for number in range(30):
        for name in ("across", "down"):
            path = tmp_path / "stripes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(striped(name, number))
    model = {"convolutionalNetwork": {"channels": [8], "hiddenLayers": [8]}}
    fields = {"family": "ConvolutionalNetwork", "engine": "Torch", "dataLocation": folder("stripes")}
    data = {"uri": folder("stripes").uri, "format": "ImageFolder", "image": {"sizePixels": 16}}
    return trained(job(model=model, training={"epochs": 15}, **fields), data)


async def test_pictures_are_asked_for_in_base64_or_as_they_are(stripes):
    contents = [striped("down", 100), striped("across", 101)]
    told = {"name": "image", "shape": [2], "datatype": "BYTES"}
    status, in_json = await stripes.infer({"inputs": [told | {"data": [base64.b64encode(each).decode() for each in contents]}]})
    assert status == 200
    assert in_json["outputs"][0]["data"] == ["down", "across"]

    blob = b"".join(struct.pack("<I", len(each)) + each for each in contents)
    head = json.dumps({"inputs": [told | {"parameters": {"binary_data_size": len(blob)}}]}).encode()
    headers = [(b"inference-header-content-length", str(len(head)).encode())]
    status, in_binary = await stripes.infer(head + blob, headers=headers)
    assert status == 200
    assert in_binary == in_json


async def test_metadata_say_how_pictures_come(stripes):
    metadata = json.loads((await stripes("GET", "/v2/models/m"))[1])
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["parameters"]["image"] == "PNG or JPEG files: as they are in binary tensors, in base64 in JSON"
    assert metadata["parameters"]["family"] == "ConvolutionalNetwork"


async def test_what_is_no_picture_is_refused(stripes):
    told = {"name": "image", "shape": [1], "datatype": "BYTES"}
    status, answer = await stripes.infer({"inputs": [told | {"data": ["a picture"]}]})
    assert (status, "base64" in answer["error"]) == (400, True)
    status, answer = await stripes.infer({"inputs": [told | {"data": [base64.b64encode(b"GIF89a").decode()]}]})
    assert (status, answer["error"]) == (400, "input image: element 0 is neither PNG nor JPEG")


async def test_the_example_of_each_family_is_answered(stripes):
    assert (await stripes.infer(stripes.model.example))[0] == 200


@pytest.fixture
def squares(job, tmp_path):
    """A model that tells where the bright half of an image is."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = random.normal(size=(80, 6, 6)) + 4 * np.where(labels[:, None, None] == (np.arange(6) > 2), 1, 0)
    np.savez(tmp_path / "images.npz", x=images, y=np.array(["left", "right"])[labels])
    config = job(family="ConvolutionalNetwork", engine="Torch", dataFile=str(tmp_path / "images.npz"), training={"epochs": 10})
    return trained(config, {"configMapRef": {"name": "rows", "key": "images.npz"}, "target": "y"})


async def test_images_are_asked_for_as_numbers(squares):
    bright = np.zeros((1, 6, 6, 1))
    bright[:, :, 3:] = 4
    told = {"name": "image", "shape": [1, 6, 6, 1], "datatype": "FP32", "data": bright.ravel().tolist()}
    status, answer = await squares.infer({"inputs": [told]})
    assert status == 200
    assert answer["outputs"][0]["data"] == ["right"]
    assert (await squares.infer(squares.model.example))[0] == 200
    status, answer = await squares.infer({"inputs": [told | {"shape": [1, 36]}]})
    assert (status, "expected numbers [-1, 6, 6, 1]" in answer["error"]) == (400, True)


@NOT_FINITE
@pytest.mark.parametrize("value", [1e39, 1e300])
async def test_images_that_overflow_are_refused(squares, value):
    told = {"name": "image", "shape": [1, 6, 6, 1], "datatype": "FP64", "data": [value] * 36}
    status, answer = await squares.infer({"inputs": [told]})
    assert status == 400
    assert "the model's answer is not finite: of its inputs image holds the number" in answer["error"]


@NOT_FINITE
async def test_numbers_that_overflow_in_single_precision_are_refused(job):
    config = job(FLOWERS, family="MultilayerPerceptron", engine="Torch", training={"epochs": 3})
    client = trained(config, {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"})
    words = {"name": "colour", "shape": [1], "datatype": "BYTES", "data": ["red"]}
    size = {"name": "size", "shape": [1], "datatype": "FP64", "data": [1e30]}
    status, answer = await client.infer({"inputs": [size, words]})
    assert (status, all(map(np.isfinite, answer["outputs"][1]["data"]))) == (200, True)
    status, answer = await client.infer({"inputs": [size | {"data": [1e42]}, words]})
    assert status == 400
    assert "of its inputs size holds the number" in answer["error"]


async def test_numpy_does_not_serve_it_and_says_who_does(squares):
    with pytest.raises(ModelInvalid, match="kind Convolutional is computed by torch alone: set the engine to Torch"):
        load_model(squares.config.model_copy(update={"engine": blocks.Engine.NUMPY}))


@pytest.fixture
def days(job):
    """A model that sees the numbers and the names of three days."""
    lines = ["t,y,day", *(f"{t},{t % 5},{'sunday' if t % 7 == 0 else 'weekday'}" for t in range(120))]
    config = job(lines, family="RecurrentNetwork", engine="Torch", training={"epochs": 3})
    source = {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"}
    return trained(config, source | {"sequence": {"timeColumn": "t", "windowSteps": 3}})


@NOT_FINITE
async def test_windows_without_a_finite_answer_are_refused_by_the_name_of_a_column(days, monkeypatch):
    predict = days.model._answer._predict
    monkeypatch.setattr(days.model._answer, "_predict", lambda rows: predict(rows) * np.inf)
    status, answer = await days.infer(days.model.example)
    assert status == 400
    assert "of its inputs y holds the number" in answer["error"]


async def test_windows_with_words_are_asked_for_column_by_column(days):
    metadata = json.loads((await days("GET", "/v2/models/m"))[1])
    shapes = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]}
    assert shapes == {"y": ("FP64", [-1, 3]), "day": ("BYTES", [-1, 3])}
    assert (await days.infer(days.model.example))[0] == 200
    numbers = {"name": "y", "shape": [2, 3], "datatype": "FP64", "data": [0, 1, 2, 3, 4, 0]}
    words = {"name": "day", "shape": [2, 3], "datatype": "BYTES", "data": ["sunday", "weekday", "weekday"] * 2}
    status, answer = await days.infer({"inputs": [numbers, words]})
    assert status == 200
    assert answer["outputs"][0]["shape"] == [2]
    status, answer = await days.infer({"inputs": [numbers | {"shape": [3, 2]}, words]})
    assert (status, answer["error"]) == (400, "input y: the shape is [3, 2], expected [-1, 3], windows of 3 rows")


def words(*texts):
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


@pytest.fixture
def moods(job):
    """A model that tells the mood of a review."""
    model = {"transformer": {"layers": 2, "heads": 2, "modelSize": 16}}
    config = job(["y,y"], family="Transformer", engine="Torch", model=model, training={"epochs": 15})
    Path(config.data_file).write_text("\n".join(["review,y", *reviews(200)]))
    source = {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"}
    return trained(config, source | {"text": {"column": "review", "maxTokens": 32, "vocabularySize": 512}})


async def test_text_is_asked_for_as_it_is(moods):
    metadata = json.loads((await moods("GET", "/v2/models/m"))[1])
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["parameters"]["text"] == "texts in UTF-8, each cut to 32 tokens"
    assert metadata["parameters"]["family"] == "Transformer"
    status, answer = await moods.infer(moods.model.example)
    assert status == 200
    good, bad = "the food was good and in the end the staff was bad", "the food was bad and in the end the staff was good"
    status, answer = await moods.infer({"inputs": [words(good, bad)]})
    assert status == 200
    assert answer["outputs"][0]["data"] == ["angry", "glad"]
    # Beside a long text, which others are padded to, the answer is the same.
    status, other = await moods.infer({"inputs": [words(good, "word " * 100)]})
    assert other["outputs"][1]["data"][:2] == pytest.approx(answer["outputs"][1]["data"][:2], abs=1e-6)
    assert (await moods.infer({"inputs": [words() | {"data": []}]}))[0] == 200


@pytest.mark.parametrize(("text", "is_on_the_loop"), [("word " * 10, True), ("word " * 10_000, False)])
async def test_a_long_text_is_read_beside_the_event_loop(moods, monkeypatch, text, is_on_the_loop):
    seen = []
    infer = moods.model.infer

    def noting(*args):
        seen.append(threading.current_thread() is threading.main_thread())
        return infer(*args)

    monkeypatch.setattr(moods.model, "infer", noting)
    assert (await moods.infer({"inputs": [words(text)]}))[0] == 200
    assert seen == [is_on_the_loop]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (words("a", None), "input text: element 1 is empty, expected a text"),
        (words("a", ""), "input text: element 1 is empty, expected a text"),
        (words("a") | {"name": "review"}, "input review is not one of the model: it takes text BYTES [-1]"),
        (
            {"name": "text", "shape": [1], "datatype": "FP64", "data": [1]},
            "input text: the shape is [1], expected BYTES [-1], a text each",
        ),
        (words(*"abcd") | {"shape": [2, 2]}, "input text: the shape is [2, 2], expected BYTES [-1], a text each"),
    ],
)
async def test_what_is_no_text_is_refused(moods, tensor, message):
    status, answer = await moods.infer({"inputs": [tensor]})
    assert (status, answer["error"]) == (400, message)


@NOT_FINITE
async def test_a_model_that_tells_nothing_of_any_text_is_to_blame_itself(moods, monkeypatch):
    predict = moods.model._answer._predict
    monkeypatch.setattr(moods.model._answer, "_predict", lambda rows: predict(rows) * np.nan)
    status, answer = await moods.infer({"inputs": [words("good")]})
    assert (status, moods.meter.statuses) == (500, [500])
    assert "the model's answer is not finite, and no number of the request can be why" in answer["error"]


def test_a_tokenizer_that_was_changed_is_not_read(moods):
    folder = Path(moods.config.model.uri.removeprefix("file://"))
    [path] = folder.glob("tokenizer-*.json")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DigestMismatch, match="tokenizer-"):
        load_model(moods.config)


@pytest.fixture
def story(job, tmp_path, folder):
    """A model that goes on with a story of which each sentence is followed by the same one."""
    (tmp_path / "story.txt").write_text("the fox saw the crow. the crow sang a song. the song was a lie.\n" * 100)
    model = {"transformer": {"architecture": "Decoder", "layers": 2, "heads": 2, "modelSize": 32}}
    fields = {"family": "Transformer", "engine": "Torch", "dataLocation": folder("story.txt")}
    config = job(model=model, training={"epochs": 40, "optimizer": {"learningRate": 0.01}}, **fields)
    data = {"uri": folder("story.txt").uri, "format": "Text", "text": {"maxTokens": 32, "vocabularySize": 512}}
    return trained(config, data)


async def test_a_text_is_gone_on_with(story):
    metadata = json.loads((await story("GET", "/v2/models/m"))[1])
    assert metadata["outputs"] == [{"name": "continuation", "datatype": "BYTES", "shape": [-1]}]
    assert set(metadata["parameters"]) >= {"text", "max_tokens", "temperature", "seed"}
    assert (await story.infer(story.model.example))[0] == 200

    async def answers(*texts, **parameters):
        status, answer = await story.infer({"inputs": [words(*texts)], "parameters": parameters})
        assert status == 200, answer
        return answer["outputs"][0]["data"]

    [song, lie] = await answers("the fox saw the crow. the crow sang", "the fox saw the crow. the crow sang a song. the song")
    assert song.startswith(" a song. the song was a lie.\nthe fox saw the crow.")
    assert lie.startswith(" was a lie.\nthe fox saw the crow.")
    # More than the model sees at a time, and no more than was asked for.
    [longer] = await answers("the fox saw the crow. the crow sang", max_tokens=200)
    assert longer.startswith(song)
    assert longer.count("the fox saw the crow. the crow sang a song.") > 5
    assert await answers("the fox saw the crow. the crow sang", max_tokens=1) == [" a"]
    # An empty text is the beginning of one.
    assert len(await answers("", max_tokens=5)) == 1


async def test_what_is_drawn_is_drawn_by_the_seed(story):
    async def drawn(**parameters):
        status, answer = await story.infer({"inputs": [words("the", "the")], "parameters": {"temperature": 2} | parameters})
        assert status == 200, answer
        return answer["outputs"][0]["data"]

    first = await drawn(seed=1)
    assert first == await drawn(seed=1)
    assert first != await drawn(seed=2)
    # Equal texts of a request go on differently.
    assert first[0] != first[1]
    greedy = (await story.infer({"inputs": [words("the")]}))[1]["outputs"][0]["data"]
    assert await drawn(temperature=0) == greedy * 2
    for cold in (0.001, 1e-308, 5e-324):
        assert await drawn(temperature=cold) == greedy * 2


@pytest.mark.parametrize(
    ("texts", "parameters", "message"),
    [
        (1, {"max_tokens": 0}, "parameter max_tokens: expected a whole number from 1 to 4096"),
        (1, {"max_tokens": True}, "parameter max_tokens: expected a whole number from 1 to 4096"),
        (5, {"max_tokens": 1000}, "parameter max_tokens: 1000 for each of 5 texts are more than 4096: send fewer texts"),
        (1, {"temperature": "hot"}, "parameter temperature: expected a number from 0 to 100"),
        (1, {"temperature": -1}, "parameter temperature: expected a number from 0 to 100"),
        (1, {"seed": 0.5}, "parameter seed: expected a whole number from 0 to 2147483647"),
    ],
)
async def test_parameters_that_are_none_are_refused(story, texts, parameters, message):
    status, answer = await story.infer({"inputs": [words(*["a"] * texts)], "parameters": parameters})
    assert (status, answer["error"]) == (400, message)


async def test_writing_stops_when_the_client_goes(story, monkeypatch):
    loop, network = asyncio.get_running_loop(), story.model._answer._write._network
    steps = []
    next_token = network.next

    def counted(*args):
        steps.append(args)
        loop.call_soon_threadsafe(story.leaving.set)
        # A turn of the loop for each step: it hears of the client while the model writes.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
        return next_token(*args)

    monkeypatch.setattr(network, "next", counted)
    status, _ = await story.infer({"inputs": [words("the fox")], "parameters": {"max_tokens": 4096}})
    assert (status, story.meter.statuses) == (499, [499])
    assert len(steps) < 20


async def test_numpy_does_not_go_on_with_texts_and_says_who_does(story):
    with pytest.raises(ModelInvalid, match="kind Transformer is computed by torch alone: set the engine to Torch"):
        load_model(story.config.model_copy(update={"engine": blocks.Engine.NUMPY}))
