"""What a GPU that is really there trains, beside the processor; skipped by name where there is none."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from eagleray_runtime.contract.config import TrainingConfig
from tests.support.torch_runs import HereRun


def on_a_gpu(test):
    """A test that needs one."""
    return pytest.mark.gpu(pytest.mark.skipif(not _is_there(), reason="CUDA finds no GPU here")(test))


def _is_there() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _in(config: TrainingConfig, precision: str, gpus: int) -> TrainingConfig:
    told = config.model_dump(mode="json", by_alias=True)
    changed = {"training": told["training"] | {"precision": precision}, "workers": told["workers"] | {"gpus": gpus}}
    return TrainingConfig.model_validate(told | changed)


def assert_learns_alike(config: TrainingConfig, folder: Path) -> None:
    """Hold that a GPU comes to the processor's losses: in Float32, in shorter numbers about, and from a checkpoint on again.

    Without dropout, of which devices draw differently.
    """
    expected = HereRun(_in(config, "Float32", 0)).to_the_end().losses
    for precision, rounded in (("Float32", 0.01), ("BFloat16", 0.1), ("Float16", 0.1)):
        shorter = _in(config, precision, 1)
        whole, interrupted, resumed = (HereRun(shorter, device="cuda") for _ in range(3))
        assert whole.run.precision == precision
        assert {values.device.type for values in whole.run.network.state_dict().values()} == {"cuda"}
        assert whole.to_the_end().losses == pytest.approx(expected, rel=rounded, abs=rounded / 10), precision
        place = folder / precision
        place.mkdir()
        interrupted.to_the_end(2).run.save(place)
        resumed.run.restore(place)
        assert resumed.run.course.epoch == 2
        # A GPU adds in any order.
        assert resumed.to_the_end().losses == pytest.approx(whole.losses, rel=rounded, abs=rounded / 10), precision
