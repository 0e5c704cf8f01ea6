"""Training beside scikit-learn: how good on real data over five seeds, and how fast per epoch in the same run.

    python -m bench.training [--seeds 5]

Both learn from the same prepared rows and are tested on the same ones, so that the table compares the training and nothing
else. Where torch is installed, its engine's steps are timed beside a bare loop's, and two workers beside one.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn import datasets, linear_model, neural_network
from sklearn.exceptions import ConvergenceWarning

from bench.jobs import job, rows
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import load
from eagleray_runtime.models.predictor import Predictor, evaluating
from eagleray_runtime.storage import Store
from eagleray_runtime.training import metrics, numpy_engine
from eagleray_runtime.training.plan import Plan, decide

T_OF_95_PERCENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, two-sided, by number of seeds."""

HIDDEN = 64


@dataclass(frozen=True)
class Contest:
    """One family on one data set; `rivals` make scikit-learn's estimators of the family for a seed."""

    data: Callable[[], Any]
    family: str
    metric: str
    training: dict[str, Any]
    rivals: tuple[Callable[[int], Any], ...]


def perceptron(seed: int) -> Any:
    return linear_model.Perceptron(random_state=seed, max_iter=50, tol=None)


def logistic(seed: int) -> Any:
    return linear_model.LogisticRegression(max_iter=5000, random_state=seed)


def network(seed: int) -> Any:
    return neural_network.MLPClassifier((HIDDEN,), batch_size=32, max_iter=100, random_state=seed)


def regressor(seed: int) -> Any:
    return neural_network.MLPRegressor(hidden_layer_sizes=(HIDDEN,), batch_size=32, max_iter=100, random_state=seed)


def least_squares(seed: int) -> Any:
    return linear_model.LinearRegression()


def ridge(seed: int) -> Any:
    return linear_model.Ridge(random_state=seed)


LINEAR = {"epochs": 300, "optimizer": {"type": "Adam", "learningRate": 0.01, "weightDecay": 0.003}}
NETWORK = {"epochs": 100}
CLASSIC = {"epochs": 50}
CONTESTS = {
    "iris": Contest(datasets.load_iris, "LogisticRegression", "Accuracy", LINEAR, (logistic,)),
    "iris, network": Contest(datasets.load_iris, "MultilayerPerceptron", "Accuracy", NETWORK, (network,)),
    "breast cancer": Contest(datasets.load_breast_cancer, "LogisticRegression", "Accuracy", LINEAR, (logistic,)),
    "breast cancer, perceptron": Contest(datasets.load_breast_cancer, "Perceptron", "Accuracy", CLASSIC, (perceptron,)),
    "breast cancer, network": Contest(datasets.load_breast_cancer, "MultilayerPerceptron", "Accuracy", NETWORK, (network,)),
    "digits": Contest(datasets.load_digits, "LogisticRegression", "Accuracy", LINEAR, (logistic,)),
    "digits, perceptron": Contest(datasets.load_digits, "Perceptron", "Accuracy", CLASSIC, (perceptron,)),
    "digits, network": Contest(datasets.load_digits, "MultilayerPerceptron", "Accuracy", NETWORK, (network,)),
    "diabetes": Contest(datasets.load_diabetes, "LinearRegression", "R2", LINEAR, (least_squares, ridge)),
    "diabetes, network": Contest(datasets.load_diabetes, "MultilayerPerceptron", "R2", NETWORK, (regressor,)),
}


def configuration(folder: Path, contest: Contest, seed: int, **training: Any) -> TrainingConfig:
    """A job on the data set as CSV; the split follows the seed too."""
    found = contest.data()
    names = [f"c{number}" for number in range(found.data.shape[1])]
    targets = [f"k{number}" for number in found.target] if contest.metric == "Accuracy" else found.target
    rows = [",".join([*map(repr, map(float, row)), str(target)]) for row, target in zip(found.data, targets, strict=True)]
    (folder / "rows.csv").write_text("\n".join([",".join([*names, "target"]), *rows]) + "\n")
    return job(
        folder,
        data={
            "configMapRef": {"name": "rows", "key": "rows.csv"},
            "target": "target",
            "split": {"validationPercent": 0, "testPercent": 25, "seed": seed},
        },
        dataFile=str(folder / "rows.csv"),
        model={"family": contest.family},
        training=contest.training | {"seed": seed} | training,
    )


def ours(folder: Path, plan: Plan, dataset: Dataset) -> Predictor:
    checkpoints = Store(Location(uri=f"file://{folder}/none"))
    outcome = numpy_engine.train(plan, dataset, checkpoints, lambda end: None)
    return evaluating(plan.architecture, outcome.parameters)


def scores(folder: Path, contest: Contest, seed: int) -> tuple[float, list[float]]:
    """Our metric on the test part, and that of each rival."""
    config = configuration(folder, contest, seed)
    dataset = load(config)
    plan, _ = decide(config, dataset)
    x, y = rows(dataset.test)
    answers = metrics.answers(plan.architecture.head, dataset.preparation.target, ours(folder, plan, dataset)(x), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = [make(seed).fit(*rows(dataset.training)).score(x, y) for make in contest.rivals]
    return metrics.value(contest.metric, answers), theirs


def show_quality(folder: Path, seeds: int) -> bool:
    say(f"{'':28} {'metric':10} {'ours':>8} {'best of theirs':>15} {'ours less theirs':>17}   95 % interval over {seeds} seeds")
    good = True
    for name, contest in CONTESTS.items():
        found = [scores(folder, contest, seed) for seed in range(seeds)]
        good = show_contest(name, contest.metric, found) and good
    return (not has_torch() or show_others(folder, seeds)) and good


def show_others(folder: Path, seeds: int) -> bool:
    """What torch alone learns from: text, pictures and a series."""
    import torch

    from bench import pictures, series, text
    from tests.support.documents import as_lines, documents

    torch.set_num_threads(1)
    (folder / "documents.jsonl").write_text(as_lines(documents(text.PARAGRAPHS)))
    pictures.write(folder)
    good = True
    for name, metric, contest in (
        ("docstrings, transformer", "Accuracy", text.telling),
        ("docstrings, next token", "Perplexity", text.going_on),
        ("digits as PNG, convolutions", "Accuracy", pictures.telling),
        ("weather, recurrent network", "R2", series.forecasting),
    ):
        good = show_contest(name, metric, [contest(folder, seed) for seed in range(seeds)]) and good
    return good


def show_contest(name: str, metric: str, found: list[tuple[float, list[float]]]) -> bool:
    """One row: our metric and those of the rivals, by seed. Are we not worse than the best of them?"""
    seeds, sign = len(found), -1 if metric == "Perplexity" else 1
    mine = [own for own, _ in found]
    best = max(zip(*(theirs for _, theirs in found), strict=True), key=lambda values: sign * statistics.mean(values))
    differences = [own - other for own, other in zip(mine, best, strict=True)]
    margin = T_OF_95_PERCENT[seeds] * statistics.stdev(differences) / seeds**0.5
    mean = statistics.mean(differences)
    worse = sign * mean + margin < 0
    interval = f"{mean - margin:+.4f} to {mean + margin:+.4f}{'  WORSE' if worse else ''}"
    say(f"{name:28} {metric:10} {statistics.mean(mine):8.4f} {statistics.mean(best):15.4f} {mean:+17.4f}   {interval}")
    return not worse


# Speed


def seconds_of(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def per_epoch(run: Callable[[int], None], epochs: int) -> float:
    """Seconds of an epoch, the start left out: what more epochs take longer than fewer, the least of three."""
    return min(seconds_of(lambda: run(3 * epochs)) - seconds_of(lambda: run(epochs)) for _ in range(3)) / (2 * epochs)


def show_speed(folder: Path) -> bool:
    contest = CONTESTS["digits, network"]
    good = True
    for name, family, training, make in (
        (
            "digits, 64 hidden units, Adam, 32 rows a step",
            "MultilayerPerceptron",
            {"optimizer": {"type": "Adam"}, "batchSize": 32},
            lambda epochs: neural_network.MLPClassifier((HIDDEN,), batch_size=32, max_iter=epochs, n_iter_no_change=10**6),
        ),
        (
            "digits, 64 hidden units, SGD, 200 rows a step",
            "MultilayerPerceptron",
            {"optimizer": {"type": "SGD"}, "batchSize": 200},
            lambda epochs: neural_network.MLPClassifier(
                (HIDDEN,), solver="sgd", momentum=0.0, batch_size=200, max_iter=epochs, n_iter_no_change=10**6
            ),
        ),
    ):
        config = configuration(folder, Contest(contest.data, family, "Accuracy", {}, ()), 0, **training)
        dataset = load(config)

        def own(epochs: int, config: TrainingConfig = config, dataset: Dataset = dataset) -> None:
            changed = config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})
            ours(folder, decide(changed, dataset)[0], dataset)

        def theirs(epochs: int, make: Callable[[int], Any] = make, dataset: Dataset = dataset) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                make(epochs).fit(*rows(dataset.training))

        mine, other = per_epoch(own, 15), per_epoch(theirs, 15)
        good = good and mine <= other
        say(f"{name}: {mine * 1e3:.1f} ms an epoch, scikit-learn {other * 1e3:.1f} ms: {mine / other:.2f} times")
    return good


def show_torch() -> bool:
    """Its steps beside a bare loop's, and two workers beside one."""
    from bench import scaling, steps

    lean = steps.main() == 0
    return scaling.show() and lean


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def say(words: str) -> None:
    print(words, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(T_OF_95_PERCENT))
    arguments = parser.parse_args()
    if not has_torch():
        say("torch is not installed: neither its families are trained nor its steps timed (make bench-training installs it)")
    with tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        as_good = show_quality(Path(folder), arguments.seeds)
        as_fast = show_speed(Path(folder))
    as_lean = not has_torch() or show_torch()
    return 0 if as_good and as_fast and as_lean else 1


if __name__ == "__main__":
    sys.exit(main())
