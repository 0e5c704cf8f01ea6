"""The Open Inference Protocol of the families that only torch has: images, pictures and windows."""

import base64
import json
import struct

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.serving.model import load_model
from tests.support.pictures import striped
from tests.support.torch_runs import HereRun
from tests.unit.runtime.test_serving import Client

pytestmark = pytest.mark.torch
pytest.importorskip("torch")


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
