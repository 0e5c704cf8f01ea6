"""Transformers: what they compute, what they must not see, that they learn, and that an interruption changes nothing."""

import math

import numpy as np
import pytest

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Initialization, InitializationMethod, LossType, PositionalEncoding
from eagleray_runtime.models.architecture import Transformer
from eagleray_runtime.models.initialization import decide, initial_parameters
from eagleray_runtime.models.losses import Loss
from eagleray_runtime.models.predictor import evaluating
from eagleray_runtime.training import driver
from eagleray_runtime.training.estimate import estimate
from eagleray_runtime.training.outcome import Outcome
from eagleray_runtime.training.trial import judged
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.texts import MOODS, fable, reviews
from tests.support.torch_runs import HereRun, Wanted, changed_alike_when_interrupted

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

START = 0
SMALL = {"layers": 2, "heads": 2, "modelSize": 16}
SHAPES = {
    "an encoder": {},
    "an encoder by its first token": {"pooling": "First", "positionalEncoding": "Sinusoidal"},
    "a decoder": {"architecture": "Decoder"},
    "a decoder with waves": {"architecture": "Decoder", "positionalEncoding": "Sinusoidal", "activation": "ReLU"},
}


def architecture(**fields):
    told = {"vocabulary": 50, "tokens": 12, "layers": 2, "heads": 2, "size": 8, "feedForward": 16, "outputs": 3}
    decoder = {"pooling": None, "head": "NextToken", "outputs": 50} if fields.pop("decoder", False) else {}
    told |= {"activation": "GELU", "positions": "Learned", "pooling": "Mean", "head": "Softmax"} | decoder
    return Transformer.model_validate(told | fields)


def network(made, seed=0):
    """In float64, in which what must not matter is zero to the last digit but a few."""
    from eagleray_runtime.models.torch_network import torch_network

    found = torch_network(made, torch.float64)
    found.set_parameters(initial_parameters(made, Initialization(method=InitializationMethod.XAVIER_NORMAL), seed))
    return found.eval()


def texts(rows=5, tokens=12, seed=0):
    x = torch.from_numpy(np.random.default_rng(seed).integers(2, 50, (rows, tokens)))
    x[:, 0] = START
    return x


@pytest.mark.parametrize("pooling", ["Mean", "First"])
@pytest.mark.parametrize("positions", ["Learned", "Sinusoidal"])
def test_an_answer_does_not_depend_on_the_padding_of_its_batch(pooling, positions):
    made = network(architecture(pooling=pooling, positions=positions))
    short = texts(3, 5)
    padded = torch.nn.functional.pad(short, (0, 7), value=PADDING)
    long = texts(2, 12)
    alone, together = made(short), made(torch.cat([padded, long]))
    assert torch.allclose(alone, together[:3], rtol=0, atol=1e-14)
    assert not torch.allclose(alone, made(torch.cat([short, short[:, 1:]], dim=1))[:3], atol=1e-3)


def test_padding_takes_no_part_in_anything_that_is_learned():
    made = network(architecture())
    padded = torch.cat([torch.nn.functional.pad(texts(3, 5), (0, 7), value=PADDING), texts(2)])
    made(padded).square().sum().backward()
    learned = made.embedding.weight.grad.clone()
    # Where another token stands in for padding, nothing else is learned.
    made.zero_grad()
    hidden, _ = made.hidden(torch.where(padded == PADDING, 7, padded), (padded != PADDING)[:, None, None, :])
    counted = (padded != PADDING)[:, :, None]
    made.output((hidden * counted).sum(dim=1) / counted.sum(dim=1)).square().sum().backward()
    assert torch.equal(made.embedding.weight.grad, learned)


@pytest.mark.parametrize("positions", ["Learned", "Sinusoidal"])
@pytest.mark.parametrize("place", [1, 6, 11])
def test_a_decoder_sees_nothing_that_comes_after(positions, place):
    made = network(architecture(decoder=True, positions=positions))
    x = texts(4, 13)
    changed = x.clone()
    changed[:, place:] = texts(4, 13, seed=1)[:, place:]
    one, other = made(x), made(changed)
    # What stands at `place` is foreseen at `place - 1`, by what is before it.
    assert torch.equal(one[:, : place - 1], other[:, : place - 1])
    assert not torch.equal(one[:, place - 1 :], other[:, place - 1 :])


def test_a_decoder_tells_nothing_of_padding_and_sees_none():
    made = network(architecture(decoder=True))
    short = texts(3, 6)
    padded = torch.nn.functional.pad(short, (0, 7), value=PADDING)
    assert torch.allclose(made(padded)[:, :5], made(short), rtol=0, atol=1e-14)
    assert torch.count_nonzero(made(padded)[:, 5:]) == 0


def test_the_probabilities_of_what_may_come_next_add_up_to_one():
    made = network(architecture(decoder=True))
    x = texts(1, 4).repeat(50, 1)
    x[:, -1] = torch.arange(50)
    with torch.no_grad():
        told = made(x)[:, -1]
        logits, _ = made.next(x[:1, :-1], None)
    assert float(told.exp().sum()) == pytest.approx(1)
    assert torch.allclose(torch.log_softmax(logits[0], dim=0), told, rtol=0, atol=1e-13)


def test_token_by_token_comes_to_the_same_as_all_at_once():
    made = network(architecture(decoder=True))
    x = texts(1, 12)
    seen = None
    for place in range(12):
        logits, seen = made.next(x[:, place : place + 1], seen)
        whole, _ = made.next(x[:, : place + 1], None)
        assert torch.allclose(logits, whole, rtol=0, atol=1e-13)


def test_it_computes_attention_as_it_is_written():
    """Vaswani et al. 2017, section 3.2, with the normalisation before (Xiong et al. 2020)."""
    made = network(architecture(layers=1))
    state = {name: values.numpy() for name, values in made.state_dict().items()}
    x = texts(1, 6)

    def norm(values, name):
        scaled = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def dense(values, name):
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    h = np.sqrt(8) * (state["embedding.weight"][x[0].numpy()] + state["positions.weight"][:6])
    stacked = dense(norm(h, "layers.0.before_attention"), "layers.0.attention.queries_keys_values")
    found = []
    for head in (slice(0, 4), slice(4, 8)):
        q, k, v = (part[:, head] for part in np.split(stacked, 3, axis=1))
        weights = np.exp(q @ k.T / math.sqrt(4))
        found.append(weights / weights.sum(axis=1, keepdims=True) @ v)
    h = h + dense(np.concatenate(found, axis=1), "layers.0.attention.output")
    z = dense(norm(h, "layers.0.before_dense"), "layers.0.wide")
    gelu = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    h = norm(h + dense(gelu, "layers.0.narrow"), "normalization")
    assert made(x).detach().numpy()[0] == pytest.approx(dense(h.mean(axis=0), "output"), abs=1e-12)


def test_waves_are_those_of_the_paper():
    made = network(architecture(positions=PositionalEncoding.SINUSOIDAL, size=6, heads=3))
    for place, number in ((0, 0), (0, 1), (5, 2), (11, 5)):
        angle = place / 10_000 ** (2 * (number // 2) / 6)
        assert made.waves[place, number] == pytest.approx(math.cos(angle) if number % 2 else math.sin(angle), abs=1e-12)


@pytest.mark.parametrize("fields", [{}, {"positions": "Sinusoidal"}, {"decoder": True}, {"pooling": "First", "layers": 3}])
def test_the_architecture_names_what_torch_has(fields):
    from eagleray_runtime.models.torch_network import torch_network

    made = architecture(dropout=0.1, **fields)
    assert {name: tuple(values.shape) for name, values in torch_network(made).state_dict().items()} == made.shapes
    assert made.parameters == sum(values.numel() for values in torch_network(made).parameters())


def test_tables_and_attention_are_drawn_so_that_numbers_keep_their_size():
    made = architecture(vocabulary=4000, size=64, heads=4)
    assert decide(made)[0] is InitializationMethod.XAVIER_UNIFORM
    drawn = initial_parameters(made, Initialization(method=InitializationMethod.XAVIER_NORMAL), 0)
    assert (math.sqrt(64) * drawn["embedding.weight"]).std() == pytest.approx(1, rel=0.02)
    assert drawn["layers.0.attention.queries_keys_values.weight"].var() == pytest.approx(2 / 128, rel=0.05)
    assert (drawn["layers.0.before_dense.weight"] == 1).all()
    assert not drawn["layers.0.wide.bias"].any()


def test_no_rows_are_no_error():
    assert network(architecture())(texts(0, 5)).shape == (0, 3)
    assert network(architecture(decoder=True))(texts(0, 5)).shape == (0, 4)


def test_the_loss_of_tokens_is_the_mean_over_tokens():
    from eagleray_runtime.models.torch_losses import total_loss

    loss = Loss(type=LossType.CROSS_ENTROPY, of_tokens=True)
    outputs, y = np.log([[0.5, 0.25], [0.125, 1.0]]), np.array([2, 1])
    assert loss.mean(outputs, y)[0] == pytest.approx(np.log(2 * 4 * 8) / 3)
    assert loss.mean(outputs, y)[1] == pytest.approx(np.array([[-1 / 3, -1 / 3], [-1 / 3, 0]]))
    total = total_loss(loss, torch.from_numpy(outputs), torch.from_numpy(y))
    assert float(total) / loss.amount(torch.from_numpy(y)) == pytest.approx(np.log(64) / 3)


@pytest.fixture
def text_job(job, tmp_path):
    """Configuration of a job that learns from rows of text, or from a long one."""

    def make(training=None, data=None, text=None, rows=None, story=None, **shape):
        fields = {"family": "Transformer", "engine": "Torch", "model": {"transformer": SMALL | shape}, "training": training}
        source = {"text": {"maxTokens": 24, "vocabularySize": 512} | (text or {})}
        if shape.get("architecture") == "Decoder":
            path = tmp_path / "story.txt"
            path.write_text(fable(400) if story is None else story)
            uri = f"file://{path}"
            config = job(dataLocation={"uri": uri}, **fields)
            return config.model_copy(
                update={"data": blocks.Data.model_validate(source | {"uri": uri, "format": "Text"} | (data or {}))}
            )
        source["text"]["column"] = "review"
        return job(["review,y", *(reviews(200) if rows is None else rows)], data=source | (data or {}), **fields)

    return make


def test_an_encoder_tells_what_a_text_says(text_job):
    run = HereRun(text_job({"epochs": 12})).to_the_end()
    assert run.dataset.classes == sorted(MOODS)
    # Which mood it is stands in the order of two words, not in the words.
    assert run.metrics()["Accuracy", "Test"] > 0.9


def test_an_encoder_tells_numbers_too(text_job):
    rows = [f"{'very ' * n}good,{n}.5" for n in range(8)] * 25
    run = HereRun(text_job({"epochs": 25}, rows=rows)).to_the_end()
    assert run.metrics()["R2", "Test"] > 0.95


def test_a_decoder_foresees_better_than_the_frequencies_of_tokens_would(text_job):
    run = HereRun(text_job({"epochs": 25, "optimizer": {"learningRate": 0.01}}, architecture="Decoder")).to_the_end()
    part = run.dataset.test
    _, counts = np.unique(run.dataset.training.x[:, 1:], return_counts=True)
    shares = counts / counts.sum()
    entropy = -float((shares * np.log(shares)).sum())
    found = run.metrics()
    assert found["Perplexity", "Test"] == pytest.approx(math.exp(found["LogLoss", "Test"]))
    assert found["Perplexity", "Test"] < 0.3 * math.exp(entropy)
    assert part.y.sum() == (part.x[:, 1:] != PADDING).sum()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(text_job, tmp_path, shape):
    training = {"epochs": 4, "batchSize": 16, "earlyStopping": {}}
    config = text_job(training, rows=reviews(80), story=fable(60), dropout=0.2, **shape)
    changed, every = changed_alike_when_interrupted(config, tmp_path)
    assert changed == every


def test_parts_of_a_step_come_to_the_step_of_the_whole(text_job):
    training = {"epochs": 1, "batchSize": 16, "optimizer": {"type": "SGD"}}
    in_parts = training | {"gradients": {"accumulationSteps": 5}}
    whole, parts = (HereRun(text_job(each, architecture="Decoder")).to_the_end().state for each in (training, in_parts))
    for name, values in whole.items():
        assert parts[name] == pytest.approx(values, abs=1e-5), name


def test_pieces_and_the_whole_come_to_the_same(monkeypatch, text_job):
    from eagleray_runtime.models import torch_module

    run = HereRun(text_job({"epochs": 1}, architecture="Decoder")).to_the_end()
    whole = run.metrics()
    monkeypatch.setattr(torch_module, "PIECE_NUMBERS", 3 * run.plan.architecture.widest)
    assert run.metrics() == pytest.approx(whole, rel=1e-5)


TRAININGS = {
    "whole": {},
    "shared out": {"parallelism": {"strategy": "FSDP"}},
    "computed again": {"parallelism": {"activationCheckpointing": "Full"}},
}


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_two_workers_come_to_what_one_does_though_their_texts_have_other_numbers_of_tokens(text_job, two_workers, tmp_path, kind):
    # Of the last step one worker has no piece, and the last piece is short.
    training = {"epochs": 2, "batchSize": 4, "optimizer": {"type": "SGD", "learningRate": 0.1}, "precision": "Float64"}
    shape = {"architecture": kind, "layers": 1}
    alone = text_job(training, story=fable(66), rows=reviews(51), **shape)
    assert HereRun(alone).dataset.training.rows % 4 == 1
    two = alone.workers.model_copy(update={"min": 2, "max": 2})
    wanted = {}
    for name in ("whole", "shared out"):
        config = text_job(training | TRAININGS[name], story=fable(66), rows=reviews(51), **shape)
        wanted[name] = Wanted(config.model_copy(update={"workers": two}))
    one = HereRun(alone).to_the_end()
    for name, came in two_workers.run(tmp_path / "two", wanted).items():
        assert came.losses == pytest.approx(one.losses, rel=1e-9), name
        for weight, values in one.state.items():
            assert came.state[weight] == pytest.approx(values, rel=1e-7, abs=1e-9), (name, weight)


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_what_is_computed_again_comes_to_the_same(text_job, kind):
    training = {"epochs": 2, "batchSize": 16, "precision": "Float64"}
    shape = {"architecture": kind, "dropout": 0.2}
    names = ("whole", "computed again")
    jobs = [text_job(training | TRAININGS[name], rows=reviews(60), **shape) for name in names]
    plain, again = (HereRun(each).to_the_end() for each in jobs)
    assert again.run.network.recomputes
    for name, values in plain.state.items():
        assert again.state[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


def test_a_search_judges_a_decoder_by_the_mean_over_the_tokens_held_out(text_job):
    run = HereRun(text_job({"epochs": 2}, architecture="Decoder")).to_the_end()
    predict, metrics = evaluating(run.plan.architecture, run.state), run.metrics()
    assert judged("Loss", run.plan, predict, run.dataset) == pytest.approx(metrics["LogLoss", "Validation"])
    assert judged("Perplexity", run.plan, predict, run.dataset) == pytest.approx(metrics["Perplexity", "Validation"])
    # It is what each epoch told too, of the last one.
    assert run.run.course.history.points[-1].validation == pytest.approx(metrics["LogLoss", "Validation"], rel=1e-5)


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_what_a_job_needs_is_told_by_the_pieces_that_are_learned(text_job, kind):
    run = HereRun(text_job({"epochs": 1}, architecture=kind))
    counted = run.dataset.counted
    assert (counted.training, counted.test) == (run.dataset.training.rows, run.dataset.test.rows)
    needs = estimate(run.plan, run.config.engine, run.config.workers, counted, 1)
    assert needs.parameters == sum(values.numel() for values in run.run.network.parameters())
    assert run.plan.row_numbers == run.dataset.training.x.shape[1]
    assert 0 < needs.duration_seconds < 60


def test_pictures_are_drawn_of_classes_and_none_of_text_that_goes_on(text_job):
    for kind, stems in (("Encoder", {"confusion", "roc", "precision-recall"}), ("Decoder", set())):
        run = HereRun(text_job({"epochs": 1}, architecture=kind))
        outcome = Outcome(run.state, [], 1, 1, 1, 0, [])
        assert {plot.stem for plot in driver._plots(run.plan, run.dataset, outcome)} == stems


@on_a_gpu
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_gpu_learns_what_the_processor_learns(text_job, tmp_path, shape):
    assert_learns_alike(text_job({"epochs": 4}, dropout=0.0, **shape), tmp_path)
