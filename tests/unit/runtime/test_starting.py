"""Training that starts from a finished model: its weights and its preparation, and what does not fit to it."""

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import Start
from eagleray_runtime.errors import DataInvalid, DigestMismatch, ModelInvalid, StoreRefused
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress

# Steps so small that they change nothing but the last digits.
STAYS = {"epochs": 1, "optimizer": {"type": "SGD", "learningRate": 1e-12}}
SHAPE = {"multilayerPerceptron": {"hiddenLayers": [5]}}


def rows(seed, size=60, scale=1.0, colours=("red", "blue")):
    random = np.random.default_rng(seed)
    a, b = random.normal(3, 2, size) * scale, random.choice(colours, size)
    return ["a,b,y", *(f"{x},{c},{'high' if x > 3 else 'low'}" for x, c in zip(a, b, strict=True))]


def run(config):
    return driver.run(config, Progress(config, Reporter(None)))


@pytest.fixture
def first(job):
    """A finished job, and its bundle."""
    config = job(rows(0), family="MultilayerPerceptron", model=SHAPE, training={"epochs": 5})
    run(config)
    return config, read_bundle(Store(config.output))


@pytest.fixture
def second(job, first, folder):
    """Configuration of a job that starts from it, with other rows."""

    def make(lines=None, *, digest=None, family="MultilayerPerceptron", model=SHAPE, training=None, **fields):
        config = job(lines or rows(1, scale=10), family=family, model=model, training=training or STAYS, **fields)
        other = config.resource.model_copy(update={"uid": "uid-2"})
        start = Start(location=first[0].output, digest=digest)
        return config.model_copy(update={"resource": other, "output": folder("second"), "start": start})

    return make


def test_it_begins_with_the_weights_and_keeps_the_preparation_of_the_model(first, second):
    bundle = first[1]
    config = second(digest=bundle.digest)
    result = run(config)
    found = read_bundle(Store(config.output))
    for name, values in bundle.parameters.items():
        assert found.parameters[name] == pytest.approx(values, abs=1e-9), name
    assert found.manifest.preparation == bundle.manifest.preparation
    assert found.manifest.classes == bundle.manifest.classes
    assert found.manifest.lineage.started_from == bundle.digest
    [choice] = [choice for choice in result.chosen if choice.field == "model.startFrom"]
    assert choice.value == bundle.digest
    assert "model.initialization.method" not in {choice.field for choice in result.chosen}


def test_the_card_says_whose_rows_the_preparation_was_fitted_on(first, second):
    config = second()
    run(config)
    cards = []
    for store in (Store(first[0].output), Store(config.output)):
        [card] = store.names("MODEL_CARD-*.md")
        cards.append(store.read(card).decode())
    assert "The preparation of the columns was fitted on the training rows alone" in cards[0]
    assert "The preparation of the columns is that of the model from which training started" in cards[1]


def test_it_goes_on_learning_from_there(first, second):
    before = first[1].manifest.history[-1].training
    result = run(second(rows(0), training={"epochs": 5}))
    losses = [point.training for point in result.progress.history]
    # The rows are those of before: the first epoch begins where the last one ended.
    assert losses[0] == pytest.approx(before, abs=0.05)
    assert losses[-1] < before


def test_a_number_is_scaled_as_the_models_target_was(job, folder):
    lines = [["a,y", *(f"{x},{3 * x + 2 + seed}" for x in np.linspace(0, 1 + seed, 40))] for seed in (0, 5)]
    config = job(lines[0], training={"epochs": 20, "optimizer": {"type": "SGD", "learningRate": 0.1}})
    run(config)
    target = read_bundle(Store(config.output)).manifest.preparation.target
    after = job(lines[1], training=STAYS)
    resource = after.resource.model_copy(update={"uid": "uid-2"})
    after = after.model_copy(update={"resource": resource, "output": folder("second"), "start": Start(location=config.output)})
    run(after)
    assert read_bundle(Store(after.output)).manifest.preparation.target == target


def test_it_is_told_what_a_missing_value_is_replaced_by_but_not_how_that_was_found(first, second):
    fill = first[1].manifest.preparation.numeric[0].fill
    notes = run(second([*rows(1), ",red,low"])).data.notes
    assert f"1 missing value of a replaced by {fill:.6g}" in notes


def test_folds_and_trials_start_from_it_too(second):
    from eagleray_runtime.contract.search import Search

    search = Search.model_validate({"algorithm": "Grid", "parameters": [{"field": "training.batchSize", "numbers": [8, 16]}]})
    config = second(evaluation={"crossValidation": {"folds": 2}}).model_copy(update={"search": search})
    result = run(config)
    values = {trial.value for trial in result.progress.search.top}
    # Nothing is learned, so that batches make no difference: all judge the weights of the model.
    assert max(values) - min(values) < 1e-6


REFUSED = {
    "another shape": ({"model": {"multilayerPerceptron": {"hiddenLayers": [6]}}}, ModelInvalid, "They differ in hidden"),
    "another activation": (
        {"model": {"multilayerPerceptron": {"hiddenLayers": [5], "activation": "Tanh"}}},
        ModelInvalid,
        "They differ in activation",
    ),
    "another head": (
        {"training": STAYS | {"loss": {"type": "BinaryCrossEntropy"}}},
        ModelInvalid,
        "They differ in outputs, head",
    ),
    "a missing column": ({"lines": ["b,y", "red,low", "blue,high"] * 9}, DataInvalid, "has no column a"),
    "one column more": (
        {"lines": ["a,b,c,y", *(f"1,red,{number},{label}" for number, label in enumerate(["low", "high"] * 9))]},
        DataInvalid,
        "knows no column c: name those that it knows by data.features: a, b",
    ),
    "text for numbers": (
        {"lines": ["a,b,y", *(f"x,red,{label}" for label in ["low", "high"] * 9)]},
        DataInvalid,
        "column a holds text",
    ),
    "numbers for text": (
        {"lines": ["a,b,y", *(f"1,2,{label}" for label in ["low", "high"] * 9)]},
        DataInvalid,
        "column b holds numbers",
    ),
    "another class": (
        {"lines": ["a,b,y", *(f"1,red,{label}" for label in ["low", "highest"] * 9)]},
        DataInvalid,
        "class highest of target column y is none of the model",
    ),
    "numbers to predict": (
        {"lines": ["a,b,y", *(f"1,red,{number / 7}" for number in range(40))]},
        ModelInvalid,
        "predicts classes",
    ),
    "another preparation": ({"data": {"preparation": {"scaling": "Robust"}}}, ModelInvalid, "brings its preparation"),
    "another digest": ({"digest": "sha256:" + "0" * 64}, DigestMismatch, "expected sha256:0000"),
}


@pytest.mark.parametrize(("fields", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_words(second, fields, error, words):
    with pytest.raises(error, match=words):
        run(second(**fields))


def test_a_place_without_a_bundle_is_refused(second, folder):
    config = second()
    nowhere = config.model_copy(update={"start": Start(location=folder("nowhere"))})
    with pytest.raises(StoreRefused, match="no complete bundle"):
        run(nowhere)


def test_a_missing_value_that_the_model_has_nothing_for_is_refused(job, folder):
    # Trained on rows without a gap that may not be filled.
    config = job(
        rows(0),
        family="MultilayerPerceptron",
        model=SHAPE,
        data={"preparation": {"missingNumeric": "Error"}},
        training={"epochs": 1},
    )
    run(config)
    after = job([*rows(1), ",red,low"], family="MultilayerPerceptron", model=SHAPE, training=STAYS)
    resource = after.resource.model_copy(update={"uid": "uid-2"})
    after = after.model_copy(update={"resource": resource, "output": folder("second"), "start": Start(location=config.output)})
    with pytest.raises(DataInvalid, match="column a lacks a value"):
        run(after)


@pytest.mark.torch
def test_a_convolutional_network_starts_with_its_statistics_too(digits, folder):
    pytest.importorskip("torch")
    from tests.support.torch_runs import HereRun

    shape = {"channels": [4], "hiddenLayers": [8]}
    first = HereRun(digits(rows=80, training={"epochs": 2}, **shape)).to_the_end()
    first.save()
    config = digits(rows=120, training={"epochs": 1}, **shape)
    second = HereRun(config.model_copy(update={"start": Start(location=first.config.output)}))
    assert second.dataset.preparation == first.dataset.preparation
    assert set(second.state) == set(first.state)
    for name, values in first.state.items():
        assert np.array_equal(second.state[name], values), name
    second.to_the_end()
    assert not np.array_equal(second.state["layers.0.weight"], first.state["layers.0.weight"])
