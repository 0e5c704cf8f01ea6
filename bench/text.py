"""Text beside scikit-learn and beside counting: paragraphs of the documentation of four libraries."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bench.jobs import job, rows
from eagleray_runtime.arrays import PADDING
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import clean
from tests.support.torch_runs import HereRun

PARAGRAPHS = 800
"""Of each library."""

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


def configuration(folder: Path, seed: int, shape: dict[str, Any], training: dict[str, Any]) -> TrainingConfig:
    """A job on the paragraphs; the split follows the seed too."""
    target = {} if shape.get("architecture") == "Decoder" else {"target": "library"}
    return job(
        folder,
        data=target
        | {
            "configMapRef": {"name": "rows", "key": "documents.jsonl"},
            "text": {"column": "text", "maxTokens": 64, "vocabularySize": 1024 if not target else 4096},
            "split": {"validationPercent": 0, "testPercent": 25, "seed": seed},
        },
        dataFile=str(folder / "documents.jsonl"),
        model={"family": "Transformer", "transformer": shape},
        training=training | {"seed": seed},
        engine="Torch",
    )


def telling(folder: Path, seed: int) -> tuple[float, list[float]]:
    """Accuracy of an encoder on the test part, and of logistic regression on TF-IDF."""
    config = configuration(folder, seed, ENCODER, TELLING)
    cleaned = clean(config)
    training, test = cleaned.parts.training, cleaned.parts.test
    texts, labels = cleaned.features["text"].values, cleaned.labels
    assert labels is not None
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
    for row in rows(dataset.training)[0].tolist():
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
    for row in rows(dataset.test)[0].tolist():
        for one, other in pairwise(row):
            if other != PADDING:
                share = (singles[other] + 1) / (total + text.vocabulary)
                kinds = len(followers.get(one, ()))
                if kinds:
                    share = (pairs[one, other] + kinds * share) / (befores[one] + kinds)
                logarithms.append(np.log(share))
    return float(np.exp(-np.mean(logarithms)))
