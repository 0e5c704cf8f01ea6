"""Images as numbers: read from NPZ files, prepared by channel, asked for by the protocol; without torch and Pillow."""

import base64
import gzip
import subprocess
import sys

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Family, LossType
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.errors import DataInvalid, ModelInvalid
from eagleray_runtime.models.architecture import Convolutional, build
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving.inputs import Images
from eagleray_runtime.serving.tensors import BadTensorError, Tensor, decode
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

ROWS = 40
LABELS = np.arange(ROWS) % 4


def pixels(channels=2, rows=ROWS):
    """Images [rows, 5, 4, channels] whose channels have means and deviations of their own."""
    random = np.random.default_rng(0)
    return random.normal(size=(rows, 5, 4, channels)) * [3.0, 0.1, 7.0][:channels] + [50.0, -1.0, 2.0][:channels]


@pytest.fixture
def images(job, tmp_path):
    """Configuration of a job that learns from the arrays of an NPZ file."""

    def make(data=None, **arrays):
        np.savez(tmp_path / "images.npz", **arrays)
        return by_file(job, tmp_path / "images.npz", data or {})

    return make


def by_file(job, path, data):
    config = job(family="ConvolutionalNetwork", engine="Torch", dataFile=str(path))
    source = {"configMapRef": {"name": "rows", "key": path.name}, "target": "y"}
    return config.model_copy(update={"data": blocks.Data.model_validate(source | data)})


def test_channels_are_scaled_by_the_training_part_alone(images):
    x = pixels()
    dataset = load(images(x=x, y=LABELS))
    assert dataset.inputs == (5, 4, 2)
    assert dataset.training.x.dtype == np.float32
    assert dataset.training.x.mean(axis=(0, 1, 2)) == pytest.approx([0, 0], abs=1e-5)
    assert dataset.training.x.std(axis=(0, 1, 2)) == pytest.approx([1, 1], abs=1e-5)
    assert abs(dataset.test.x.mean()) > 1e-3, "the test part was scaled by itself"
    column = dataset.preparation.images
    assert column.shape == (5, 4, 2)
    assert [channel.scale for channel in column.channels] == pytest.approx([3.0, 0.1], rel=0.2)


def test_images_without_channels_have_one(images):
    assert load(images(x=pixels(1)[..., 0], y=LABELS)).inputs == (5, 4, 1)


def test_the_target_is_taken_for_classes_or_numbers_as_in_a_table(images):
    assert load(images(x=pixels(), y=LABELS)).classes == ["0", "1", "2", "3"]
    assert load(images(x=pixels(), y=np.array(["rose", "iris"])[LABELS % 2])).classes == ["iris", "rose"]
    assert load(images(x=pixels(), y=np.linspace(0, 1, ROWS))).task == "Regression"


def test_a_target_may_be_a_matrix_of_one_column(images):
    assert load(images(x=pixels(), y=LABELS[:, np.newaxis])).classes == ["0", "1", "2", "3"]


@pytest.mark.parametrize("scaling", ["Standard", "Robust"])
def test_pixels_may_be_true_or_false(images, scaling):
    dataset = load(images({"preparation": {"scaling": scaling}}, x=pixels() > 50, y=LABELS))
    assert len(np.unique(dataset.training.x[..., 0])) == 2
    assert {type(value) for value in np.ravel(dataset.example["x"]).tolist()} == {int}


def test_a_preparation_that_does_nothing_to_images_is_refused(images):
    with pytest.raises(ModelInvalid, match="images take duplicates, scaling and targetScaling alone"):
        load(images({"preparation": {"outliers": "IQR"}}, x=pixels(), y=LABELS))


def test_repeated_images_are_dropped_where_that_is_asked_for(images):
    x, y = np.concatenate([pixels(), pixels()[:8]]), np.concatenate([LABELS, LABELS[:8]])
    assert load(images({"preparation": {"duplicates": "Drop"}}, x=x, y=y)).report.dropped == 8
    assert load(images(x=x, y=y)).report.dropped == 0


def test_groups_stay_together(images):
    dataset = load(images({"split": {"method": "Group", "groupColumn": "g"}}, x=pixels(), y=LABELS, g=np.arange(ROWS) // 4))
    assert (dataset.report.training, dataset.report.validation, dataset.report.test) == (32, 4, 4)
    assert dataset.report.notes == []


def test_arrays_that_are_no_images_are_told_and_left_out(images):
    dataset = load(images(x=pixels(), y=LABELS, flat=pixels().reshape(ROWS, -1)))
    assert dataset.report.notes == ["arrays that are not learned from: flat"]


BROKEN = pixels()
BROKEN[7, 0, 0, 0] = np.nan
REFUSED = {
    "no images": ({}, {"x": pixels().reshape(ROWS, -1), "y": LABELS}, "none of the arrays x, y holds images"),
    "two arrays of images": (
        {},
        {"x": pixels(), "z": pixels(), "y": LABELS},
        "x, z hold images: name one of them in data.features",
    ),
    "an unknown feature": ({"features": ["w"]}, {"x": pixels(), "y": LABELS}, "data.features: the data has no column w"),
    "a flat feature": ({"features": ["y"]}, {"x": pixels(), "y": LABELS}, "array y has 1 dimensions, and images have 3"),
    "no target": ({"target": "z"}, {"x": pixels(), "y": LABELS}, "data.target: the data has no column z"),
    "missing pixels": ({}, {"x": BROKEN, "y": LABELS}, r"not numbers \(NaN or infinity\) in row 8 \(1 such rows\)"),
    "too few targets": ({}, {"x": pixels(), "y": LABELS[:-1]}, r"array y has the shape \[39\], one value for each of the 40"),
    "words as pixels": ({}, {"x": pixels().astype(str), "y": LABELS}, "images are numbers"),
    "channels first": (
        {},
        {"x": np.zeros((ROWS, 3, 8, 8)), "y": LABELS},
        r"shape \[40, 3, 8, 8\], with channels before height and width: move them behind",
    ),
    "no rows": ({}, {"x": pixels()[:0], "y": LABELS[:0]}, "which holds no images"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_from_is_refused_with_what_to_do(images, case):
    data, arrays, words = REFUSED[case]
    with pytest.raises(DataInvalid, match=words):
        load(images(data, **arrays))


def test_a_file_of_another_sort_is_refused(job, tmp_path):
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataInvalid, match=r"rows.csv is no .npz file"):
        load(by_file(job, tmp_path / "rows.csv", {}))
    with pytest.raises(DataInvalid, match=r"rows.csv cannot be read as NPZ"):
        load(by_file(job, tmp_path / "rows.csv", {"format": "NPZ"}))


def test_images_of_several_files_are_read_together_and_parts_may_have_their_own(job, tmp_path, folder):
    for number in range(2):
        np.savez(tmp_path / f"part{number}.npz", x=pixels(), y=LABELS)
    np.savez(tmp_path / "test.npz", x=pixels(rows=8), y=LABELS[:8])
    config = job(family="ConvolutionalNetwork", dataLocation=folder("part*.npz"), testLocation=folder("test.npz"))
    data = {"uri": folder("part*.npz").uri, "target": "y", "split": {"testUri": folder("test.npz").uri}}
    config = config.model_copy(update={"data": blocks.Data.model_validate(data)})
    report = load(config).report
    assert (report.rows, report.training, report.validation, report.test) == (88, 72, 8, 8)
    np.savez(tmp_path / "test.npz", x=pixels(channels=3, rows=8), y=LABELS[:8])
    with pytest.raises(DataInvalid, match=r"5 x 4 x 2 in data.uri, 5 x 4 x 3 in data.split.testUri"):
        load(config)


def test_a_target_may_be_whole_in_one_file_and_have_fractions_in_another(job, tmp_path, folder):
    np.savez(tmp_path / "rows.npz", x=pixels(), y=LABELS)
    np.savez(tmp_path / "test.npz", x=pixels(rows=8), y=LABELS[:8] / 2)
    config = job(family="ConvolutionalNetwork", dataLocation=folder("rows.npz"), testLocation=folder("test.npz"))
    data = {"uri": folder("rows.npz").uri, "target": "y", "split": {"testUri": folder("test.npz").uri}}
    config = config.model_copy(update={"data": blocks.Data.model_validate(data)})
    assert load(config).task == "Regression"
    np.savez(tmp_path / "test.npz", x=pixels(rows=8), y=LABELS[:8].astype(str))
    with pytest.raises(DataInvalid, match="a number in some files and true/false or text in others"):
        load(config)


def test_files_of_images_may_be_packed(job, tmp_path):
    np.savez(tmp_path / "images.npz", x=pixels(), y=LABELS)
    (tmp_path / "images.npz.gz").write_bytes(gzip.compress((tmp_path / "images.npz").read_bytes()))
    assert load(by_file(job, tmp_path / "images.npz.gz", {})).inputs == (5, 4, 2)


def test_an_image_that_would_be_halved_to_nothing_is_told_with_what_to_change():
    model = blocks.Model(
        family=Family.CONVOLUTIONAL_NETWORK, convolutional_network=blocks.ConvolutionalNetwork(channels=[2, 2, 2])
    )
    with pytest.raises(ModelInvalid, match=r"images of 5 x 4 pixels are halved after each of 3 .* set its pooling to None"):
        build(model, (5, 4, 1), 2, LossType.CROSS_ENTROPY)
    model = model.model_copy(update={"convolutional_network": blocks.ConvolutionalNetwork(channels=[2, 2, 2], pooling="None")})
    architecture = build(model, (5, 4, 1), 2, LossType.CROSS_ENTROPY)
    assert isinstance(architecture, Convolutional)
    assert architecture.flat == 2 * 5 * 4


def test_the_numpy_engine_says_that_it_has_no_convolutions(images):
    config = images(x=pixels(), y=LABELS).model_copy(update={"engine": blocks.Engine.NUMPY})
    with pytest.raises(ModelInvalid, match="kind Convolutional is computed by torch alone: set the engine to Torch"):
        driver.run(config, Progress(config, Reporter(None)))


COLUMN = ImageColumn(name="x", form="Numbers", height=2, width=3, channels=[Affine(offset=1, scale=2)])


def test_a_request_may_leave_out_the_only_channel():
    values = np.arange(12.0).reshape(2, 2, 3)
    found = Images(COLUMN).prepared([Tensor("image", values)])
    assert found == pytest.approx((values[..., np.newaxis] - 1) / 2)
    assert Images(COLUMN).prepared([Tensor("image", values[..., np.newaxis])]) == pytest.approx(found)


BAD_REQUESTS = {
    "another name": ([Tensor("x", np.zeros((1, 2, 3, 1)))], r"input x is not one of the model: it takes image \[-1, 2, 3, 1\]"),
    "another size": ([Tensor("image", np.zeros((1, 3, 2, 1)))], r"the shape \[1, 3, 2, 1\], expected numbers \[-1, 2, 3, 1\]"),
    "two of them": ([Tensor("image", np.zeros((1, 2, 3, 1)))] * 2, "input image is given twice"),
    "a missing pixel": ([Tensor("image", np.full((1, 2, 3, 1), np.nan))], "every pixel needs a number"),
    "words": ([Tensor("image", np.full((1, 2, 3, 1), "a", dtype=np.object_))], "BYTES, expected numbers"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_request_that_does_not_fit_is_answered_with_what_is_expected(case):
    inputs, words = BAD_REQUESTS[case]
    with pytest.raises(BadTensorError, match=words):
        Images(COLUMN).prepared(inputs)


def test_files_come_as_they_are_in_binary_and_in_base64_in_json():
    content = bytes(range(256))
    told = {"name": "image", "shape": [1], "datatype": "BYTES"}
    in_json, _ = decode(told | {"data": [base64.b64encode(content).decode()]}, None, {"image"})
    body = memoryview(len(content).to_bytes(4, "little") + content)
    in_binary, taken = decode(told | {"parameters": {"binary_data_size": len(body)}}, body, {"image"})
    assert in_json.values.tolist() == in_binary.values.tolist() == [content]
    assert taken == 260
    with pytest.raises(BadTensorError, match="base64"):
        decode(told | {"data": ["no base64!"]}, None, {"image"})
    with pytest.raises(BadTensorError, match="not UTF-8"):
        decode(told | {"parameters": {"binary_data_size": len(body)}}, body)


def test_nothing_but_pictures_needs_pillow():
    # None in sys.modules is what Python takes for a module that is not installed.
    script = "import sys; sys.modules['PIL'] = None; import eagleray_runtime.serving.model, eagleray_runtime.training.driver"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
