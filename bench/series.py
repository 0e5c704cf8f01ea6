"""A time series beside scikit-learn's: how warm it will be in Seattle tomorrow, by the weather of the two weeks before."""

from pathlib import Path

from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from bench.jobs import job, rows
from tests.support.locks import installed
from tests.support.torch_runs import HereRun

MODEL = {"family": "RecurrentNetwork", "recurrentNetwork": {"hiddenSize": 32, "dropout": 0.2}}
TRAINING = {"epochs": 30, "optimizer": {"type": "AdamW", "learningRate": 0.003}}


def forecasting(folder: Path, seed: int) -> tuple[float, list[float]]:
    """R2 of a recurrent network on the last quarter, and of scikit-learn's network and linear model on the same windows."""
    weather = installed("series") / "vega_datasets" / "_data" / "seattle-weather.csv"
    data = {
        "configMapRef": {"name": "weather", "key": weather.name},
        "target": "temp_max",
        "sequence": {"timeColumn": "date", "windowSteps": 14},
        "split": {"method": "Chronological", "validationPercent": 0, "testPercent": 25},
    }
    run = HereRun(job(folder, data=data, model=MODEL, training=TRAINING | {"seed": seed}, engine="Torch", dataFile=str(weather)))
    rivals = (MLPRegressor(hidden_layer_sizes=(64,), early_stopping=True, max_iter=500, random_state=seed), Ridge(1.0))
    theirs = [rival.fit(*rows(run.dataset.training)).score(*rows(run.dataset.test)) for rival in rivals]
    return run.to_the_end().metrics()["R2", "Test"], theirs
