"""Text beside scikit-learn and beside counting: paragraphs of the documentation of four libraries that are installed here.

Their docstrings (numpy, scipy, pandas and scikit-learn, all under the BSD licence) are text that people wrote, with a label that
is not in doubt: the library. Versions are locked, so that every machine has the same.
"""

import ast
import importlib.util
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.dataset import Dataset, clean
from tests.support.torch_runs import HereRun

LIBRARIES = ("numpy", "scipy", "pandas", "sklearn")
PARAGRAPHS = 800
"""Of each library."""

CODE = frozenset("|=`[{<_")
SHORTEST, LONGEST = 80, 300
"""Characters of a paragraph."""

ENCODER = {"layers": 1, "heads": 4, "modelSize": 64, "dropout": 0.5}
TELLING = {
    "epochs": 14,
    "optimizer": {"type": "AdamW", "learningRate": 0.002, "weightDecay": 0.3},
    "schedule": {"type": "Linear"},
}
DECODER = {"architecture": "Decoder", "layers": 2, "heads": 4, "modelSize": 64, "dropout": 0.1}
GOING_ON = {
    "epochs": 14,
    "batchSize": 8,
    "optimizer": {"type": "AdamW", "learningRate": 0.003},
    "schedule": {"type": "Cosine", "warmupPercent": 5},
    "gradients": {"clipNorm": 1},
}


def paragraphs(package: str) -> list[str]:
    """Paragraphs of prose in the docstrings of a package, each once, in the order of its files."""
    found: dict[str, None] = {}
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        if "test" in str(path.relative_to(root)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            for paragraph in (words or "").split("\n\n"):
                text = " ".join(paragraph.split())
                if SHORTEST <= len(text) <= LONGEST and ">>>" not in text and not CODE & set(text):
                    found[text] = None
    return list(found)


def write_documents(path: Path) -> None:
    """As many paragraphs of each library, as JSON lines of text and library."""
    rows = []
    for library in LIBRARIES:
        found = paragraphs(library)
        random.Random(0).shuffle(found)  # noqa: S311 - no secret
        rows += [{"text": text, "library": library} for text in found[:PARAGRAPHS]]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def configuration(folder: Path, seed: int, shape: dict[str, Any], training: dict[str, Any]) -> TrainingConfig:
    """A job on the paragraphs; the split follows the seed too."""
    target = {} if shape.get("architecture") == "Decoder" else {"target": "library"}
    return TrainingConfig.model_validate(
        {
            "resource": {"kind": "TrainingJob", "namespace": "bench", "name": "bench", "uid": "uid", "generation": 1},
            "attempt": 1,
            "engine": "Torch",
            "data": target
            | {
                "configMapRef": {"name": "rows", "key": "documents.jsonl"},
                "text": {"column": "text", "maxTokens": 64, "vocabularySize": 1024 if not target else 4096},
                "split": {"validationPercent": 0, "testPercent": 25, "seed": seed},
            },
            "dataFile": str(folder / "documents.jsonl"),
            "model": {"family": "Transformer", "transformer": shape},
            "training": training | {"seed": seed},
            "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": 0},
            "output": {"uri": f"file://{folder}/model"},
            "checkpoints": {"uri": f"file://{folder}/checkpoints"},
        }
    )


def telling(folder: Path, seed: int) -> tuple[float, list[float]]:
    """Accuracy of an encoder on the test part, and of logistic regression on TF-IDF."""
    config = configuration(folder, seed, ENCODER, TELLING)
    cleaned = clean(config)
    training, test = cleaned.parts.training, cleaned.parts.test
    texts, labels = cleaned.features["text"].values, cleaned.labels
    rivals = [make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, C=strength)) for strength in (1, 10)]
    theirs = [rival.fit(texts[training], labels[training]).score(texts[test], labels[test]) for rival in rivals]
    return HereRun(config).to_the_end().metrics()["Accuracy", "Test"], theirs


def going_on(folder: Path, seed: int) -> tuple[float, list[float]]:
    """Perplexity of a decoder on the test part, and of pairs of the same tokens that are counted."""
    run = HereRun(configuration(folder, seed, DECODER, GOING_ON))
    return run.to_the_end().metrics()["Perplexity", "Test"], [pairs_perplexity(run.dataset)]


def pairs_perplexity(dataset: Dataset) -> float:
    """Perplexity of a bigram model of the training part on the test part, smoothed as Witten and Bell 1991 (method C)."""
    text = dataset.preparation.text
    if text is None:
        raise ValueError("the data set is no text")
    pairs: Counter[tuple[int, int]] = Counter()
    followers: dict[int, set[int]] = {}
    for row in dataset.training.x.tolist():
        for one, other in pairwise(row):
            if other != PADDING:
                pairs[one, other] += 1
                followers.setdefault(one, set()).add(other)
    befores, singles = Counter[int](), Counter[int]()
    for (one, other), count in pairs.items():
        befores[one] += count
        singles[other] += count
    total = sum(singles.values())
    logarithms = []
    for row in dataset.test.x.tolist():
        for one, other in pairwise(row):
            if other != PADDING:
                share = (singles[other] + 1) / (total + text.vocabulary)
                kinds = len(followers.get(one, ()))
                if kinds:
                    share = (pairs[one, other] + kinds * share) / (befores[one] + kinds)
                logarithms.append(np.log(share))
    return float(np.exp(-np.mean(logarithms)))
