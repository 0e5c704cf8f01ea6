"""A search: what is tried, how it is judged, what comes of it."""

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.blocks import Data, Model, Training
from eagleray_runtime.contract.config import Location
from eagleray_runtime.contract.reports import FailureReason
from eagleray_runtime.contract.rules import broken
from eagleray_runtime.contract.search import Search, SearchScale
from eagleray_runtime.data.loading import clean, folds, load
from eagleray_runtime.data.rows import read
from eagleray_runtime.errors import DataInvalid, ModelInvalid, RuntimeFailure, StoreRefused
from eagleray_runtime.models.network import Network
from eagleray_runtime.reports import Reporter, Stopped
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver, numpy_engine, trial
from eagleray_runtime.training.draws import draw
from eagleray_runtime.training.evaluation import answers
from eagleray_runtime.training.halving import cutoffs, is_rung
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.search import parallelism
from eagleray_runtime.training.space import Dimension, dimensions
from eagleray_runtime.training.trial import Trial, judged

ROWS = ["a,b,y", *(f"{a},{b},{'over' if a * b > 20 else 'under'}" for a in range(10) for b in range(10))]
RATE = "training.optimizer.learningRate"
RATES = {"field": RATE, "range": {"min": 0.0001, "max": 0.1, "scale": "Log"}}
TRAINING = {"epochs": 4, "optimizer": {"type": "Adam"}}


class Listener(Reporter):
    def __init__(self):
        super().__init__(None)
        self.told = []

    def progress(self, report):
        self.told.append(report)

    def due(self, stage):
        return True


def searching(job, *parameters, rows=ROWS, family="LogisticRegression", training=None, evaluation=None, data=None, **search):
    search = {"maxTrials": 6} | search | {"parameters": list(parameters or [RATES])}
    more = {"evaluation": evaluation} if evaluation else {}
    return job(rows, family=family, training=TRAINING | (training or {}), data=data, search=search, **more)


def run(config, reporter=None):
    return driver.run(config, Progress(config, reporter or Reporter(None)))


def choices(result):
    return {choice.field: choice for choice in result.chosen}


def dimensions_of(job, *parameters, **more):
    config = searching(job, *parameters, **more)
    return dimensions(config, config.search)


# What is tried


RANGE = Dimension("rate", None, 0.001, 1.0, SearchScale.LOG)
LAYERS = Dimension("layers", None, 1, 3, whole=True)
KINDS = Dimension("kind", ("ReLU", "Tanh"))


def drawn(*dimensions, seed=0, **search):
    return draw(Search(parameters=[{"field": "model.family", "choices": ["any"]}], **search), list(dimensions), seed)


@pytest.mark.parametrize(
    ("dimensions", "search", "expected"),
    [
        ([KINDS], {"algorithm": "Grid"}, [{"kind": "ReLU"}, {"kind": "Tanh"}]),
        ([KINDS], {"max_trials": 20}, [{"kind": "ReLU"}, {"kind": "Tanh"}]),
        ([LAYERS], {"max_trials": 3}, [{"layers": 1}, {"layers": 2}, {"layers": 3}]),
        ([LAYERS, KINDS], {"algorithm": "Grid"}, [{"layers": n, "kind": k} for n in (1, 2, 3) for k in ("ReLU", "Tanh")]),
    ],
    ids=["a grid", "a draw of all there are", "every whole number", "every combination"],
)
def test_where_there_are_few_combinations_all_are_tried(dimensions, search, expected):
    assert drawn(*dimensions, **search) == expected


def test_draws_depend_on_the_seed_alone_and_the_first_are_the_same_however_many_follow():
    many = drawn(RANGE, KINDS, max_trials=50)
    assert drawn(RANGE, KINDS, max_trials=50) == many
    assert drawn(RANGE, KINDS, max_trials=10) == many[:10]
    assert drawn(RANGE, KINDS, max_trials=50, seed=1) != many


@given(
    low=st.floats(-1e6, 1e6, allow_nan=False),
    width=st.floats(0.001, 1e6),
    whole=st.booleans(),
    log=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_within_the_range_and_no_combination_comes_twice(low, width, whole, log, seed):
    if log:
        low = abs(low) + 0.001
    if whole:
        low, width = math.ceil(low), math.ceil(width)
    found = drawn(
        Dimension("x", None, low, low + width, SearchScale.LOG if log else SearchScale.LINEAR, whole),
        KINDS,
        max_trials=20,
        seed=seed,
    )
    assert all(low <= values["x"] <= low + width for values in found)
    assert all(isinstance(values["x"], int) == whole for values in found)
    assert len({tuple(values.values()) for values in found}) == len(found) >= 1


def test_a_log_range_has_as_many_draws_of_each_order_of_magnitude():
    orders = [math.floor(math.log10(values["rate"])) for values in drawn(RANGE, max_trials=900)]
    assert all(250 < orders.count(order) < 350 for order in (-3, -2, -1))


def test_a_range_too_narrow_for_so_many_different_numbers_gives_those_that_there_are():
    assert 1 <= len(drawn(Dimension("x", None, 1.0, 1.00001), max_trials=1000)) <= 11


def test_a_grid_of_more_combinations_than_trials_is_refused():
    with pytest.raises(ModelInvalid, match=r"the grid has 6 combinations and maxTrials is 5: raise it"):
        drawn(LAYERS, KINDS, algorithm="Grid", max_trials=5)


# Which fields


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (
            {"field": "training.optimizer.rate", "numbers": [1]},
            r"no field training\.optimizer\.rate: training\.optimizer has type",
        ),
        ({"field": "training.epochs.most", "numbers": [1]}, r"training\.epochs has none below it"),
        ({"field": "training.optimiser", "numbers": [1]}, r"no field training\.optimiser: training has engine"),
        ({"field": "model.multilayerPerceptron.hiddenLayers", "numbers": [1]}, "neither a number nor a choice"),
        ({"field": "training.optimizer.nesterov", "choices": ["true"]}, "neither a number nor a choice"),
        ({"field": "data.preparation.overrides.scaling", "choices": ["None"]}, "overrides has none below it"),
        ({"field": "training.engine", "choices": ["Torch"]}, "decided before a search begins"),
        ({"field": RATE, "choices": ["fast"]}, "is a number: give range or numbers"),
        ({"field": "model.family", "numbers": [1]}, "is one of LinearRegression, .*: give choices"),
        ({"field": RATE, "numbers": [0.1, 0]}, "learningRate 0, which this spec refuses: Input should be greater than 0"),
        ({"field": RATE, "range": {"min": 1, "max": 101}}, "learningRate 101, .*: Input should be less than or equal to 100"),
        ({"field": "model.custom.parameters.depth", "choices": ["2"]}, "depth 2, .*: custom.entrypoint: Field required"),
        ({"field": "training.batchSize", "numbers": [2.5]}, "batchSize 2.5, .*: Input should be a valid integer"),
        ({"field": "training.batchSize", "range": {"min": 2.2, "max": 2.8}}, "none is between 2.2 and 2.8"),
        ({"field": "data.preparation.scaling", "choices": ["Standard", "Most"]}, "scaling Most, .*: Input should be 'Standard',"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_what_cannot_be_searched_is_refused_in_the_specs_own_words(job, parameter, words):
    with pytest.raises(ModelInvalid, match=words):
        dimensions_of(job, parameter)


@pytest.mark.parametrize(
    ("family", "choices", "words"),
    [
        ("LogisticRegression", ["LogisticRegression", "RecurrentNetwork"], "LogisticRegression and RecurrentNetwork learn from"),
        ("Transformer", ["Transformer", "MultilayerPerceptron"], "Transformer and MultilayerPerceptron learn from other rows"),
    ],
)
def test_families_that_learn_from_other_rows_are_not_searched_together(job, family, choices, words):
    with pytest.raises(ModelInvalid, match=words):
        dimensions_of(job, {"field": "model.family", "choices": choices}, family=family)


def test_numbers_and_choices_are_found_wherever_they_are_even_if_unset(job):
    found = dimensions_of(
        job,
        {"field": "data.preparation.maxCategories", "range": {"min": 1.5, "max": 9.9}},
        {"field": "model.multilayerPerceptron.dropout", "numbers": [0, 0.5, 0.5]},
        {"field": "training.batchSize", "numbers": [16, 32]},
        {"field": "training.loss.type", "choices": ["Auto"]},
        {"field": "training.earlyStopping.patienceEpochs", "range": {"min": 1, "max": 5}},
        family="MultilayerPerceptron",
        metric="Accuracy",
    )
    assert [(each.values, each.low, each.high, each.whole) for each in found] == [
        (None, 2, 9, True),
        ((0.0, 0.5), 0, 0, False),
        ((16, 32), 0, 0, False),
        (("Auto",), 0, 0, False),
        (None, 1, 5, True),
    ]


@pytest.mark.parametrize(
    ("field", "choices", "spec", "words"),
    [
        (
            "training.optimizer.type",
            ["SGD", "Adam"],
            {"optimizer": {"momentum": 0.9, "type": "SGD"}},
            "momentum goes with type SGD",
        ),
        ("training.optimizer.type", ["GradientDescent"], {"batchSize": 8}, "GradientDescent uses all rows: drop batchSize"),
        ("training.schedule.type", ["OneCycle"], {"schedule": {"warmupPercent": 5}}, "OneCycle warms up by itself"),
        ("data.preparation.outlierAction", ["DropRow"], {}, "outlierAction DropRow needs outliers IQR or ZScore"),
    ],
)
def test_values_that_do_not_go_together_are_refused_by_the_specs_rules_before_any_trial(
    job, monkeypatch, field, choices, spec, words
):
    monkeypatch.setattr(numpy_engine, "train", lambda *_: pytest.fail("a trial ran"))
    with pytest.raises(ModelInvalid, match=f"spec.search tries {field} .*, which this spec refuses: {words}"):
        run(searching(job, {"field": field, "choices": choices}, training=spec))


@pytest.mark.parametrize(
    ("options", "parameter", "error", "words"),
    [
        ({"metric": "R2"}, RATES, ModelInvalid, "search.metric R2 is not one of this task: use Loss, Accuracy"),
        ({"data": {"split": {"validationPercent": 0}}}, RATES, ModelInvalid, "validation part, which is empty"),
        (
            {"rows": [*ROWS, "1,,over"]},
            {"field": "data.preparation.missingNumeric", "choices": ["Mean", "DropRow"]},
            ModelInvalid,
            "missingNumeric DropRow: that leaves other rows to validate on than data.preparation.missingNumeric Mean",
        ),
        (
            {"rows": [*ROWS, "1,,over"]},
            {"field": "data.preparation.missingNumeric", "choices": ["Mean", "Error"]},
            DataInvalid,
            "missingNumeric Error: .*missing",
        ),
        (
            {},
            {"field": "model.family", "choices": ["LogisticRegression", "Perceptron"]},
            ModelInvalid,
            "family Perceptron: that makes the loss Perceptron",
        ),
        (
            {"rows": ["a,y", *(f"{n % 7},{n % 3}" for n in range(60))], "metric": "Accuracy"},
            {"field": "model.family", "choices": ["LogisticRegression", "LinearRegression"]},
            ModelInvalid,
            "that makes the task Regression",
        ),
        (
            {
                "rows": ["t,a,y", *(f"{n},{n % 7},{n % 5}" for n in range(60))],
                "family": "RecurrentNetwork",
                "data": {"sequence": {"timeColumn": "t", "windowSteps": 3}},
            },
            {"field": "data.preparation.missingNumeric", "choices": ["Mean", "DropRow"]},
            ModelInvalid,
            "missingNumeric DropRow: no row of a sequence can be dropped",
        ),
        (
            {"rows": None, "family": "LinearRegression", "training": {"loss": {"type": "Huber"}}},
            {"field": "data.preparation.targetScaling", "choices": ["Standard", "MinMax"]},
            ModelInvalid,
            r"targetScaling MinMax: .* cannot be compared: set training\.loss\.delta",
        ),
    ],
    ids=[
        "metric",
        "no rows",
        "dropped rows",
        "refused rows",
        "another loss",
        "another task",
        "rows of a sequence",
        "another Huber loss",
    ],
)
def test_trials_that_could_not_be_judged_or_compared_are_refused_before_any_runs(
    job, monkeypatch, options, parameter, error, words
):
    monkeypatch.setattr(numpy_engine, "train", lambda *_: pytest.fail("a trial ran"))
    with pytest.raises(error, match=words):
        run(searching(job, parameter, **options))


def test_families_that_share_no_loss_are_compared_by_a_metric_of_the_task(job):
    families = {"field": "model.family", "choices": ["LogisticRegression", "Perceptron"]}
    assert choices(run(searching(job, families, metric="Accuracy")))["model.family"].value in families["choices"]


# What comes of it


def trained_alone(config, metric, **fields):
    """The metric on the validation part of a job without a search."""
    config = config.model_copy(update={"checkpoints": Location(uri=f"{config.checkpoints.uri}/alone"), "search": None} | fields)
    dataset = load(config)
    plan, _ = driver.decide(config, dataset)
    outcome = numpy_engine.train(plan, dataset, Store(config.checkpoints), lambda end: None)
    return judged(metric, plan, Network(plan.architecture, outcome.parameters).forward, dataset)


def with_rate(config, rate):
    optimizer = config.training.optimizer.model_copy(update={"learning_rate": rate})
    return config.training.model_copy(update={"optimizer": optimizer})


@pytest.mark.parametrize(("metric", "best"), [("Loss", min), ("Accuracy", max), ("LogLoss", min)])
def test_the_model_is_the_one_that_the_best_values_alone_would_give(job, metric, best):
    config = searching(job, metric=metric)
    result = run(config)
    rates = [values[RATE] for values in draw(config.search, dimensions(config, config.search), 0)]
    scores = [trained_alone(config, metric, training=with_rate(config, rate)) for rate in rates]
    rate = rates[scores.index(best(scores))]
    chosen = choices(result)[RATE]
    assert float(chosen.value) == rate
    assert chosen.reason == f"the best of 6 trials by {metric} on the validation part: {best(scores):.6g}"
    search = result.progress.search
    assert (search.trials, search.running, search.failed, search.stopped) == (6, 0, 0, 0)
    assert search.best == pytest.approx(best(scores))
    assert [top.value for top in search.top] == pytest.approx(sorted(scores, reverse=best is max)[:5])
    assert search.top[0].values == {RATE: chosen.value}

    alone = config.model_copy(
        update={"search": None, "training": with_rate(config, rate), "output": Location(uri=f"{config.output.uri}-alone")}
    )
    run(alone)
    # Weights are named by what they hold.
    names = [read_bundle(Store(each.output)).manifest.weights for each in (config, alone)]
    assert names[0] == names[1]


def test_with_folds_a_trial_is_judged_by_the_mean_over_them(job):
    config = searching(job, maxTrials=3, metric="Accuracy", evaluation={"crossValidation": {"folds": 3}})
    result = run(config)
    means = []
    for values in draw(config.search, dimensions(config, config.search), 0):
        tried = config.model_copy(update={"training": with_rate(config, values[RATE])})
        scores = []
        for number, fold in enumerate(folds(tried, clean(tried), 3)):
            plan, _ = driver.decide(tried, fold)
            outcome = numpy_engine.train(plan, fold, Store(Location(uri=f"{config.output.uri}-{number}")), lambda end: None)
            network = Network(plan.architecture, outcome.parameters)
            said = answers(network.forward, plan.architecture.head, fold, fold.validation)
            scores.append(float((said.answered == said.right).mean()))
        means.append(statistics.mean(scores))
    assert result.progress.search.best == pytest.approx(max(means))
    assert choices(result)[RATE].reason == f"the best of 3 trials by the mean of Accuracy over 3 folds: {max(means):.6g}"
    of_model = {metric.name: metric.value for metric in result.metrics if metric.part == "CrossValidation"}
    assert of_model["Accuracy"] == pytest.approx(max(means)), "the model is cross-validated as the trial was"


def test_the_rows_to_test_on_are_in_no_trial(job, monkeypatch):
    seen, train = [], numpy_engine.train

    def watched(plan, dataset, *arguments):
        seen.append(dataset.test.rows)
        return train(plan, dataset, *arguments)

    monkeypatch.setattr(numpy_engine, "train", watched)
    result = run(searching(job, maxTrials=2))
    assert seen == [0, 0, 10]
    assert "Test" in {metric.part for metric in result.metrics}


def test_a_trial_that_diverges_counts_as_failed_and_does_not_end_the_search(job):
    unscaled = {"preparation": {"scaling": "None"}}
    config = searching(
        job,
        {"field": RATE, "numbers": [100, 0.001]},
        rows=["a,y", *(f"{1e150 * n},{n % 11}.5" for n in range(50))],
        family="LinearRegression",
        data=unscaled,
        training={"epochs": 3, "optimizer": {"type": "SGD"}, "gradients": {"clipNorm": 1e-140}},
    )
    config = config.model_copy(
        update={"search": Search(parameters=[{"field": "training.gradients.clipNorm", "numbers": [1e300, 1e-170]}])}
    )
    result = run(config)
    assert (result.progress.search.trials, result.progress.search.failed) == (2, 1)
    chosen = choices(result)["training.gradients.clipNorm"]
    assert chosen.value == "1e-170"
    assert chosen.reason.startswith("the best of 2 trials, of which 1 failed, by Loss on the validation part: ")


def test_if_all_trials_fail_the_job_fails_with_the_newest_cause(job):
    config = searching(
        job,
        {"field": RATE, "numbers": [1, 10]},
        rows=["a,y", *(f"{1e150 * n},{n % 11}.5" for n in range(50))],
        family="LinearRegression",
        data={"preparation": {"scaling": "None"}},
        training={"optimizer": {"type": "SGD"}},
    )
    for attempt in (1, 2):
        with pytest.raises(
            RuntimeFailure, match=rf"all 2 trials of the search failed, the newest, with {RATE} 10: the loss became"
        ) as failed:
            run(config.model_copy(update={"attempt": attempt}))
        assert failed.value.reason is FailureReason.DIVERGED


def test_a_store_that_refuses_ends_the_search_and_not_only_a_trial(job, monkeypatch):
    def refused(*_):
        raise StoreRefused("the bucket is gone")

    monkeypatch.setattr(numpy_engine, "train", refused)
    with pytest.raises(StoreRefused, match="the bucket is gone"):
        run(searching(job))


class LostError(BaseException):
    pass


@pytest.mark.parametrize("more", [{}, {"algorithm": "ASHA"}, {"evaluation": {"crossValidation": {"folds": 2}}}], ids=str)
def test_another_attempt_goes_on_with_the_trial_that_was_interrupted(job, monkeypatch, more):
    config = searching(job, **more)
    undisturbed = run(config.model_copy(update={"output": Location(uri=config.output.uri + "-whole")}))
    seen, train = [], numpy_engine.train

    def counted(plan, *arguments):
        if len(seen) == 4:
            seen.append("lost")
            raise LostError
        seen.append(plan.optimizer.learning_rate)
        return train(plan, *arguments)

    monkeypatch.setattr(numpy_engine, "train", counted)
    with pytest.raises(LostError):
        run(config)
    result = run(config.model_copy(update={"attempt": 2}))
    trainings = 15 if "evaluation" in more else 7
    assert len(seen) == trainings + 1, "none was made twice"
    assert result.progress.search == undisturbed.progress.search
    assert result.model.digest == undisturbed.model.digest


@pytest.mark.parametrize(("limits", "first"), [(None, 3), ({}, 1)], ids=["to its end", "ASHA"])
def test_an_interrupted_trial_goes_on_from_its_checkpoint_but_is_compared_at_every_rung(job, limits, first):
    config = searching(job, training={"epochs": 5, "checkpoint": {"everyEpochs": 1}})
    each, told = Trial(1, {RATE: 0.01}, "Loss", limits), []

    class Watched(Progress):
        def epoch(self, end):
            told.append(end.epoch)
            if told == [1, 2, 3]:
                raise LostError

    with pytest.raises(LostError):
        trial.run(config, read(config), each, Watched(config, Reporter(None)))
    ended = trial.run(config, read(config), each, Watched(config, Reporter(None)))
    assert told == [1, 2, 3, *range(first, 6)]
    assert set(ended.rungs) == (set() if limits is None else {1, 4})
    assert ended.value == pytest.approx(trained_alone(config, "Loss", training=with_rate(config, 0.01)))


@pytest.mark.parametrize("cutoff", [math.inf, -math.inf], ids=["to its end", "ended early"])
def test_a_trial_that_has_ended_leaves_no_checkpoint_in_the_store(job, cutoff):
    config = searching(job, training={"epochs": 5, "checkpoint": {"everyEpochs": 1}})
    ended = trial.run(config, read(config), Trial(1, {RATE: 0.01}, "Loss", {4: cutoff}), Progress(config, Reporter(None)))
    assert ended.stopped == (cutoff < 0)
    assert Store(config.checkpoints).find_below() == []


def test_an_attempt_that_nobody_waits_for_ends_in_the_midst_of_a_trial(job):
    class Superseded(Listener):
        def due(self, stage):
            if self.told and self.told[-1].trial == 2 and self.told[-1].epoch:
                raise Stopped("409 Conflict")
            return True

    with pytest.raises(Stopped):
        run(searching(job), Superseded())


def test_a_trial_begins_without_the_epochs_and_losses_of_the_one_before_it(job):
    listener = Listener()
    run(searching(job, maxTrials=3), listener)
    begun = [report for before, report in pairwise(listener.told) if report.trial != before.trial and report.trial]
    assert [report.trial for report in begun] == [1, 2, 3]
    assert {(report.epoch, report.step, len(report.metrics), len(report.history)) for report in begun} == {(0, 0, 0, 0)}


@pytest.mark.parametrize("evaluation", [None, {"crossValidation": {"folds": 2}}])
def test_progress_covers_the_trials_and_the_model_and_never_goes_back(job, evaluation):
    listener = Listener()
    config = searching(job, {"field": "training.epochs", "range": {"min": 2, "max": 9}}, maxTrials=3, evaluation=evaluation)
    result = run(config, listener)
    told = [report for report in listener.told if report.stage == "Training"]
    assert [report.percent for report in told] == sorted(report.percent for report in told)
    assert sorted({report.trial for report in told}) == [0, 1, 2, 3]
    assert all(report.search.trials == 3 for report in told if report.trial)
    assert max(report.percent for report in told if report.trial) < 75 <= told[-1].percent == 90
    assert [report.search.running for report in told if report.trial][:2] == [0, 1]
    assert {report.search.running for report in told[1:] if report.trial} == {1}
    assert told[-1].search == result.progress.search
    epochs = int(choices(result)["training.epochs"].value)
    assert result.progress.epoch == result.progress.epochs == epochs == listener.told[-1].epochs


def test_a_bundle_that_is_complete_is_reported_with_its_search(job):
    config = searching(job)
    first = run(config)
    again = run(config.model_copy(update={"attempt": 2}))
    assert again.progress.search == first.progress.search
    assert again.chosen == first.chosen


# Which trials end early


def test_rungs_are_the_powers_of_four():
    assert [epoch for epoch in range(1, 300) if is_rung(epoch)] == [1, 4, 16, 64, 256]


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_trials_one_after_the_other_end_where_ray_tunes_own_scheduler_ends_them(trials, larger_is_better):
    bracket = _Bracket(1, 20, 4, 0)
    sign = 1 if larger_is_better else -1
    known = []

    class Tunes:
        def __init__(self, number):
            self.trial_id = number

    for number, values in enumerate(trials):
        limits, rungs = cutoffs(known, larger_is_better=larger_is_better), {}
        for epoch, value in zip((1, 4, 16), values, strict=True):
            rungs[epoch] = value
            ours = epoch in limits and sign * value < sign * limits[epoch]
            theirs = bracket.on_result(Tunes(number), epoch, sign * value) == "STOP"
            close = epoch in limits and math.isclose(value, limits[epoch], rel_tol=1e-9, abs_tol=1e-9)
            assert ours == theirs or close
            if theirs:
                break
        known.append(rungs)


def test_asha_ends_trials_that_are_worse_than_the_best_quarter_and_trains_fewer_epochs(job, monkeypatch):
    epochs, train = [], numpy_engine.train

    def counted(plan, dataset, store, on_epoch, *arguments):
        outcome = train(plan, dataset, store, on_epoch, *arguments)
        epochs.append(outcome.epochs)
        return outcome

    monkeypatch.setattr(numpy_engine, "train", counted)
    training = {"epochs": 20}
    result = run(searching(job, training=training, algorithm="ASHA", maxTrials=12))
    *of_trials, of_model = epochs
    assert epochs[0] == of_model == 20, "with nothing to compare with the first goes on"
    assert set(of_trials) <= {1, 4, 16, 20}
    assert of_trials.count(20) < 6
    search = result.progress.search
    assert search.stopped == sum(count < 20 for count in of_trials) > 0
    assert len(search.top) == min(5, of_trials.count(20)), "a trial that was ended has no value"
    assert f"of which {search.stopped} were ended early" in choices(result)[RATE].reason


@pytest.mark.parametrize(
    ("asked", "cpus", "expected"), [(1, 0.5, 1), (4, 8.0, 4), (4, 2.9, 2), (4, 0.5, 1)], ids=lambda value: str(value)
)
def test_no_more_trials_run_at_once_than_there_are_whole_cores_and_that_is_told(asked, cpus, expected):
    wanted = Search(parallel_trials=asked, parameters=[RATES])
    at_once, chosen = parallelism(wanted, cpus)
    assert at_once == expected
    assert [(choice.field, choice.value) for choice in chosen] == (
        [("search.parallelTrials", str(expected))] if expected < asked else []
    )


# The rules of the spec without a library for CEL


@pytest.mark.parametrize("block", [Data, Model, Training], ids=lambda block: block.__name__)
def test_defaults_keep_all_rules(block):
    minimal = {Data: {"uri": "s3://b/r.csv", "target": "y"}, Model: {"family": "LinearRegression"}, Training: {}}[block]
    checked = block.model_validate(minimal)
    assert list(broken(checked.preparation if block is Data else checked)) == []
