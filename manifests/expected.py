"""What the samples must come to: least squares for the line, scikit-learn's network for iris, the true species."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data import sample
from eagleray_runtime.data.loading import load as load_dataset
from eagleray_runtime.data.splitting import split_rows

LINE_TOLERANCE = 1e-3
IRIS_ROWS_TOLERANCE = 2


class DisagreementError(Exception):
    """Ours and theirs are not the same."""


def features(rows: list[list[float]]) -> dict[str, Any]:
    """Rows of numeric columns as the input tensor of the Open Inference Protocol."""
    data = [value for row in rows for value in row]
    return {"name": "features", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": data}


def check_line(config: TrainingConfig, w: float, b: float, at_two: float) -> list[str]:
    """Our coefficients beside ordinary least squares on the same training rows; lines to print."""
    table = sample.linear_regression(config.data.split.seed)
    rows = split_rows(table.rows, config.data.split, None).training
    their_w, their_b = np.polyfit(table["x"].values[rows], table["y"].values[rows], 1)
    for name, mine, theirs in (("w", w, their_w), ("b", b, their_b)):
        if not abs(mine - theirs) <= LINE_TOLERANCE:
            raise DisagreementError(f"line: {name} is {mine}, least squares says {theirs}")
    if not abs(at_two - (2 * their_w + their_b)) <= 3 * LINE_TOLERANCE:
        raise DisagreementError(f"line: the served model says {at_two} at x = 2, least squares {2 * their_w + their_b}")
    return [
        "",
        f"line: y = w x + b through the same {len(rows)} training rows (seed {config.data.split.seed})",
        "        Eagleray   least squares",
        f"  w   {w:9.6f}   {their_w:9.6f}",
        f"  b   {b:9.6f}   {their_b:9.6f}",
        f"  asked over HTTP at x = 2: {at_two:.6f}",
    ]


class Iris:
    """The rows of the sample, split as the job splits them."""

    def __init__(self, config: TrainingConfig, content: str) -> None:
        """`content` is the CSV file."""
        self._config = config
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "iris.csv"
            file.write_text(content)
            self.data = load_dataset(config.model_copy(update={"data_file": str(file)}))
        self._table = [row.split(",") for row in content.split()[1:]]

    def asked(self) -> list[list[str]]:
        """One row of the test part for each species."""
        species = np.array([row[-1] for row in self._table], dtype=object)
        test = split_rows(len(self._table), self._config.data.split, species).test
        return [self._table[next(row for row in test if species[row] == name)] for name in self.data.classes]

    def reference(self) -> float:
        """Accuracy of scikit-learn's network of the same size and training on the test part."""
        training = self._config.training
        theirs = MLPClassifier(
            hidden_layer_sizes=(64,),
            learning_rate_init=0.001,
            batch_size=32,
            max_iter=training.epochs,
            n_iter_no_change=training.epochs,
            random_state=training.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            theirs.fit(self.data.training.x, self.data.training.y)
        return float(theirs.score(self.data.test.x, self.data.test.y))


def check_iris(iris: Iris, metrics: list[dict[str, Any]], answer: dict[str, Any]) -> list[str]:
    """Our accuracy beside scikit-learn's, and the three answers beside the true species; lines to print."""
    reference = iris.reference()
    [accuracy] = [metric["value"] for metric in metrics if (metric["name"], metric["part"]) == ("Accuracy", "Test")]
    if abs(accuracy - reference) * iris.data.test.rows > IRIS_ROWS_TOLERANCE + 0.01:
        raise DisagreementError(f"iris: accuracy {accuracy}, scikit-learn {reference}")
    asked = iris.asked()
    chances = np.reshape(answer["probabilities"], (3, 3)).max(axis=1)
    wrong = [row for row, label in zip(asked, answer["label"], strict=True) if row[-1] != label]
    if wrong:
        raise DisagreementError(f"iris: predicted {answer['label']} for {asked}")
    return [
        "",
        f"iris: accuracy on the {iris.data.test.rows} test rows that neither has seen",
        f"  Eagleray {accuracy:.4f}   scikit-learn's MLPClassifier {reference:.4f}",
        "  asked over HTTP:",
        *(
            f"  {', '.join(row[:-1])} cm -> {label} ({chance:.2f}), which it is"
            for row, label, chance in zip(asked, answer["label"], chances, strict=True)
        ),
    ]


def numbers(rows: list[list[str]]) -> list[list[float]]:
    """Rows of the file without the species, as numbers."""
    return [[float(value) for value in row[:-1]] for row in rows]
