"""Other versions of the training part's images."""

import numpy as np
import pytest

from eagleray_runtime.contract import blocks
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


def versions(ramps, seed=0, epoch=1, rows=None):
    from eagleray_runtime.training.augmentation import Light

    rows = torch.arange(ROWS) if rows is None else rows
    return Light(seed, epoch, ROWS, HEIGHT, WIDTH)(ramps, rows).numpy()


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


def test_they_depend_on_seed_and_epoch_alone(ramps):
    found = versions(ramps)
    assert np.array_equal(found, versions(ramps))
    assert not np.array_equal(found, versions(ramps, epoch=2))
    assert not np.array_equal(found, versions(ramps, seed=1))
    # However the rows are dealt to workers and batches.
    rows = torch.tensor([150, 3, 77])
    assert np.array_equal(versions(ramps, rows=rows), found[rows.numpy()])


def test_an_interrupted_run_sees_the_images_of_an_undisturbed_one_and_others_than_without(job, tmp_path, folder):
    for number in range(12):
        for name in ("across", "down"):
            path = tmp_path / "stripes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(striped(name, number))

    def config(augmentation):
        model = {"convolutionalNetwork": {"channels": [4], "hiddenLayers": [4]}}
        fields = {"family": "ConvolutionalNetwork", "engine": "Torch", "dataLocation": folder("stripes")}
        image = {"sizePixels": 16, "augmentation": augmentation}
        data = {"uri": folder("stripes").uri, "format": "ImageFolder", "image": image}
        made = job(model=model, training={"epochs": 4, "batchSize": 8}, **fields)
        return made.model_copy(update={"data": blocks.Data.model_validate(data)})

    whole, interrupted, resumed = (HereRun(config("Light")) for _ in range(3))
    interrupted.to_the_end(2).run.save(tmp_path)
    resumed.run.restore(tmp_path)
    assert resumed.run.course.epoch == 2
    whole.to_the_end()
    resumed.to_the_end()
    plain = HereRun(config("None")).to_the_end()
    assert np.array_equal(whole.validation[0], plain.validation[0])
    for name, values in whole.state.items():
        assert np.array_equal(values, resumed.state[name]), name
    assert not np.array_equal(whole.state["layers.0.weight"], plain.state["layers.0.weight"])
