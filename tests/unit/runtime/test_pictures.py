"""PNG and JPEG files as images, a folder for each class."""

import base64
import io
import zlib
from itertools import product

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.loading import load
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.serving.inputs import Pictures
from eagleray_runtime.serving.tensors import BadTensorError, Tensor

# Pillow comes with torch: only the torch engine learns from pictures.
pytestmark = pytest.mark.torch
Image = pytest.importorskip("PIL.Image")


def file(pixels, ending="png", **options):
    """Pixels uint8 [height, width] or [height, width, channels] as a file's content."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, {"png": "PNG", "jpg": "JPEG"}[ending], **options)
    return written.getvalue()


def plain(red, green, blue, height=6, width=9):
    return np.full((height, width, 3), (red, green, blue), dtype=np.uint8)


@pytest.fixture
def flowers(job, tmp_path, folder):
    """Configuration of a job that learns from red roses and blue irises; files may be added to the folder or replaced."""
    for number, ending in product(range(10), ("png", "jpg")):
        for name, colour in {"rose": (200, number, 20), "iris": (20, number, 200)}.items():
            path = tmp_path / "flowers" / name / f"{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file(plain(*colour), ending))

    def make(size=4, **split):
        data = {"uri": folder("flowers").uri, "format": "ImageFolder", "image": {"sizePixels": size}, "split": split}
        fields = {"testLocation": folder("more")} if "testUri" in split else {}
        config = job(family="ConvolutionalNetwork", engine="Torch", dataLocation=folder("flowers"), **fields)
        return config.model_copy(update={"data": blocks.Data.model_validate(data)})

    return make


def test_a_folder_is_a_class_and_every_picture_gets_the_same_size(flowers):
    dataset = load(flowers(size=5))
    assert dataset.classes == ["iris", "rose"]
    assert dataset.inputs == (5, 5, 3)
    assert (dataset.report.rows, dataset.report.training, dataset.report.test) == (40, 32, 4)
    red = dataset.training.x[..., 0].mean(axis=(1, 2))
    assert (red[dataset.training.y == 1] > 0).all()
    assert (red[dataset.training.y == 0] < 0).all()


def test_the_size_is_224_pixels_where_none_is_named(flowers):
    config = flowers()
    assert load(config.model_copy(update={"data": config.data.model_copy(update={"image": None})})).inputs == (224, 224, 3)


def test_the_digest_is_of_what_the_files_are_called_too(flowers, tmp_path):
    before = load(flowers()).report.digest
    assert load(flowers()).report.digest == before
    (tmp_path / "flowers" / "rose" / "0.png").rename(tmp_path / "flowers" / "iris" / "other.png")
    assert load(flowers()).report.digest != before


def test_grey_pictures_stay_grey_and_are_taken_as_coloured_where_others_are(flowers, tmp_path):
    (tmp_path / "flowers" / "rose" / "grey.png").write_bytes(file(np.full((4, 4), 100, dtype=np.uint8)))
    dataset = load(flowers())
    assert dataset.inputs == (4, 4, 3)
    assert dataset.report.notes == ["1 of 41 pictures are grey and taken as coloured ones of three equal channels"]
    for path in (tmp_path / "flowers").rglob("*.*"):
        path.write_bytes(file(np.full((4, 4), 20 if "iris" in path.parts else 220, dtype=np.uint8)))
    assert load(flowers()).inputs == (4, 4, 1)


def test_other_files_are_told_and_hidden_ones_are_not(flowers, tmp_path):
    for name in ("README.txt", "rose/notes.txt", "rose/.DS_Store", ".git/a.png", "__MACOSX/rose/0.png"):
        path = tmp_path / "flowers" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"no picture")
    assert load(flowers()).report.notes == ["2 files that are neither .png, .jpg nor .jpeg left out"]


def test_a_part_may_have_a_folder_of_its_own(flowers, tmp_path, folder):
    for name in ("rose", "iris"):
        (tmp_path / "more" / name).mkdir(parents=True)
        (tmp_path / "more" / name / "1.png").write_bytes(file(np.full((3, 3), 9, dtype=np.uint8)))
    report = load(flowers(testUri=folder("more").uri)).report
    assert (report.training, report.test) == (36, 2)
    assert report.notes == ["2 grey pictures are taken as coloured ones of three equal channels"]


def test_a_damaged_picture_is_named(flowers, tmp_path):
    path = tmp_path / "flowers" / "rose" / "3.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataInvalid, match=r"flowers/rose/3.png cannot be decoded: .* replace or remove it"):
        load(flowers())
    path.write_bytes(b"GIF89a")
    with pytest.raises(DataInvalid, match=r"flowers/rose/3.png is neither PNG nor JPEG"):
        load(flowers())


def test_a_picture_that_says_to_be_huge_is_not_unpacked(flowers, tmp_path):
    head = bytearray(file(plain(1, 2, 3)))
    head[16:24] = (60_000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(bytes(head[12:29])).to_bytes(4, "big")
    (tmp_path / "flowers" / "rose" / "3.png").write_bytes(bytes(head))
    with pytest.raises(DataInvalid, match=r"rose/3.png (has 60000 x 60000 pixels|cannot be decoded)"):
        load(flowers())


def test_folders_without_pictures_are_named(flowers, tmp_path):
    (tmp_path / "flowers" / "tulip").mkdir()
    (tmp_path / "flowers" / "tulip" / "notes.txt").write_text("none yet")
    with pytest.raises(DataInvalid, match=r"flowers/tulip holds no pictures .* fill or remove this folder"):
        load(flowers())
    (tmp_path / "flowers" / "tulip" / "notes.txt").unlink()
    (tmp_path / "flowers" / "loose.png").write_bytes(file(plain(1, 2, 3)))
    with pytest.raises(DataInvalid, match=r"flowers/loose.png is in no class's folder \(1 such pictures\)"):
        load(flowers())
    for path in (tmp_path / "flowers").rglob("*.*"):
        path.unlink()
    with pytest.raises(DataInvalid, match=r"flowers holds no pictures .* it needs a folder for each class"):
        load(flowers())


def column(channels):
    return ImageColumn(name="image", form="Files", height=4, width=4, channels=[Affine()] * channels)


def asked(channels, *contents):
    values = np.empty(len(contents), dtype=np.object_)
    values[:] = contents
    return Pictures(column(channels)).prepared([Tensor("image", values)])


def test_the_server_takes_pictures_of_any_size_and_colour():
    found = asked(3, file(plain(10, 20, 30)), file(np.full((50, 7), 40, dtype=np.uint8)))
    assert found.shape == (2, 4, 4, 3)
    assert found[0] == pytest.approx(np.broadcast_to([10, 20, 30], (4, 4, 3)))
    assert found[1] == pytest.approx(np.full((4, 4, 3), 40))
    # The brightness of a colour as ITU-R 601 has it.
    assert asked(1, file(plain(10, 20, 30)))[0] == pytest.approx(np.full((4, 4, 1), 0.299 * 10 + 0.587 * 20 + 0.114 * 30), abs=1)


def test_wide_transparent_and_turned_pictures_look_as_they_should():
    wide = np.full((4, 4), 200 * 256, dtype=np.uint16)
    assert asked(1, file(wide))[0] == pytest.approx(np.full((4, 4, 1), 200))
    transparent = np.dstack([plain(10, 20, 30), np.zeros((6, 9), dtype=np.uint8)])
    assert asked(3, file(transparent))[0] == pytest.approx(np.broadcast_to([10, 20, 30], (4, 4, 3)))
    half = np.zeros((4, 4), dtype=np.uint8)
    half[:2] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stands on its head
    assert asked(1, file(half, exif=exif))[0, :, 0, 0].tolist() == [0, 0, 255, 255]


NO_PICTURES = {
    "neither PNG nor JPEG": (b"GIF89a", "element 1 is neither PNG nor JPEG"),
    "nothing": (None, "element 1 is empty"),
    "half of one": (file(plain(1, 2, 3), "jpg")[:-200], "element 1 cannot be decoded"),
}


@pytest.mark.parametrize(("content", "words"), NO_PICTURES.values(), ids=NO_PICTURES)
def test_the_server_names_the_element_that_is_no_picture(content, words):
    with pytest.raises(BadTensorError, match=words):
        asked(3, file(plain(1, 2, 3)), content)


def test_the_example_of_a_bundle_is_a_small_picture(flowers):
    dataset = load(flowers(size=200))
    content = base64.b64decode(dataset.example["image"])
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("PNG", (32, 32))
