"""Other versions of the training part's images."""

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.pictures import striped
from tests.support.torch_runs import HereRun

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

ROWS, HEIGHT, WIDTH = 200, 20, 30


@pytest.fixture
def ramps():
    """Images [rows, height, width, 2] whose channels say where a pixel is from."""
    places = np.stack(np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij"), axis=-1)
    return torch.from_numpy(np.broadcast_to(places, (ROWS, HEIGHT, WIDTH, 2)).astype(np.float32).copy())


def versions(images, seed=0, epoch=1, rows=None, kind="Light"):
    from eagleray_runtime.training.augmentation import KINDS

    rows = torch.arange(ROWS) if rows is None else rows
    return KINDS[blocks.Augmentation(kind)](seed, epoch, ROWS, HEIGHT, WIDTH)(images, rows).numpy()


def test_half_of_the_images_are_mirrored_and_all_are_moved_by_at_most_a_tenth(ramps):
    found = versions(ramps)
    across, down = found[:, 0, :, 1], found[:, :, 0, 0]
    mirrored = across[:, 0] > across[:, -1]
    assert 0.4 < mirrored.mean() < 0.6
    upright = np.where(mirrored[:, None], across[:, ::-1], across)
    # Away from the borders every pixel is moved alike.
    shifts = np.arange(WIDTH) - upright
    assert (shifts[:, 3:-3] == shifts[:, 3:4]).all()
    assert set(shifts[:, 10]) == set(range(-3, 4))
    assert set(np.arange(HEIGHT)[10] - down[:, 10]) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("kind", ["Light", "Strong"])
def test_they_depend_on_seed_and_epoch_alone(ramps, kind):
    found = versions(ramps, kind=kind)
    assert (found.shape, found.dtype) == (ramps.shape, np.float32)
    assert np.array_equal(found, versions(ramps, kind=kind))
    assert not np.array_equal(found, versions(ramps, kind=kind, epoch=2))
    assert not np.array_equal(found, versions(ramps, kind=kind, seed=1))
    # However the rows are dealt to workers and batches.
    rows = torch.tensor([150, 3, 77])
    assert versions(ramps, kind=kind, rows=rows) == pytest.approx(found[rows.numpy()], abs=1e-5)


def test_a_rectangle_of_half_of_them_is_covered():
    from eagleray_runtime.training.augmentation import rectangles, within

    edges = rectangles(np.random.default_rng(0), ROWS, HEIGHT, WIDTH)
    covered = within(torch.from_numpy(edges), HEIGHT, WIDTH).numpy()
    shares = covered.mean(axis=(1, 2))
    assert 0.4 < (shares > 0).mean() < 0.6
    assert shares[shares > 0].min() > 0.01
    assert 0.15 < shares.max() < 0.22
    for image in covered[shares > 0]:
        (down,), (across,) = image.any(axis=1).nonzero(), image.any(axis=0).nonzero()
        assert image[down[0] : down[-1] + 1, across[0] : across[-1] + 1].all(), "it is a rectangle"
    assert covered.any(axis=0).mean() > 0.9, "wherever, corners rarely"


def test_strong_turns_zooms_and_lights_within_its_bounds(ramps):
    """Seen on a ramp from left to right: its slope is turned by the angle, and scaled by zoom and contrast."""
    found = versions(ramps[..., 1:], kind="Strong")[..., 0]
    middle = found[:, 5:-5, 8:-8]
    down, across = (np.median(np.diff(middle, axis=axis), axis=(1, 2)) for axis in (1, 2))
    angles = np.degrees(np.arctan2(np.abs(down), np.abs(across)))
    assert 5 < np.quantile(angles, 0.9) < 15.5
    slopes = np.hypot(down, across)
    slopes = slopes[slopes > 0.1]
    assert len(slopes) > 0.8 * ROWS, "few are covered in the middle"
    assert 1 / (1.25 * 1.5) - 0.01 < slopes.min() < 0.8
    assert 1.25 < slopes.max() < 1.25 * 1.5 + 0.01
    assert np.abs(found.mean(axis=(1, 2)) - found.mean()).std() > 1, "other brightness"


@pytest.fixture
def stripes(job, tmp_path, folder):
    """Configuration of a job that learns which way stripes run, from pictures in folders that are changed so."""
    for number in range(12):
        for name in ("across", "down"):
            path = tmp_path / "stripes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(striped(name, number))

    def make(augmentation):
        model = {"convolutionalNetwork": {"channels": [4], "hiddenLayers": [4]}}
        fields = {"family": "ConvolutionalNetwork", "engine": "Torch", "dataLocation": folder("stripes")}
        image = {"sizePixels": 16, "augmentation": augmentation}
        data = {"uri": folder("stripes").uri, "format": "ImageFolder", "image": image}
        made = job(model=model, training={"epochs": 4, "batchSize": 8}, **fields)
        return made.model_copy(update={"data": blocks.Data.model_validate(data)})

    return make


@pytest.mark.parametrize("kind", ["Light", "Strong"])
def test_an_interrupted_run_sees_the_images_of_an_undisturbed_one_and_others_than_without(stripes, tmp_path, kind):
    whole, interrupted, resumed = (HereRun(stripes(kind)) for _ in range(3))
    interrupted.to_the_end(2).run.save(tmp_path)
    resumed.run.restore(tmp_path)
    assert resumed.run.course.epoch == 2
    whole.to_the_end()
    resumed.to_the_end()
    plain = HereRun(stripes("None")).to_the_end()
    seen, without = (next(each.validation.held_out(each.run)).x for each in (whole, plain))
    assert np.array_equal(seen, without)
    for name, values in whole.state.items():
        assert np.array_equal(values, resumed.state[name]), name
    assert not np.array_equal(whole.state["layers.0.weight"], plain.state["layers.0.weight"])


@on_a_gpu
@pytest.mark.parametrize("kind", ["Light", "Strong"])
def test_a_gpu_learns_what_the_processor_learns(stripes, tmp_path, kind):
    assert_learns_alike(stripes(kind), tmp_path)
