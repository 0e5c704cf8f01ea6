"""Pretrained models: read without running what is in them, learned further whole or by LoRA, saved whole and served."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import ModelInvalid, StoreRefused
from eagleray_runtime.models.predictor import load_predictor
from eagleray_runtime.storage import Store
from eagleray_runtime.training.devices import state_bytes
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.pretrained import change, save
from tests.support.texts import fable, reviews
from tests.support.torch_runs import HereRun, Wanted, changed_alike_when_interrupted
from tests.unit.runtime.test_serving import Client
from tests.unit.runtime.test_serving_families import serving, words

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("peft")

METHODS = {"whole": {}, "by LoRA": {"method": "LoRA", "lora": {"rank": 8, "dropout": 0.1}}}
FAST = {"optimizer": {"learningRate": 0.003}}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folders of a Bert and a Llama."""
    folder = tmp_path_factory.mktemp("pretrained")
    for kind in ("Bert", "Llama"):
        save(folder / kind, kind)
    return folder


@pytest.fixture
def tuning(job, saved, tmp_path):
    """Configuration of a job that learns a pretrained model further: of reviews, or of a story where `target` is None."""

    def make(kind="Bert", *, target="y", training=None, data=None, rows=None, folder=None, **pretrained):
        place = Location(uri=f"file://{folder or saved / kind}")
        (tmp_path / "r.csv").write_text("\n".join(["review,y", *(reviews(200) if rows is None else rows)]))
        (tmp_path / "story.txt").write_text(fable(150))
        fields = {"family": "Pretrained", "engine": "Torch", "training": FAST | (training or {}), "baseLocation": place}
        model = {"pretrained": {"uri": place.uri} | pretrained}
        if target is None:
            uri = f"file://{tmp_path}/story.txt"
            source = {"uri": uri, "format": "Text", "text": {"maxTokens": 24}}
            fields["dataLocation"] = {"uri": uri}
        else:
            source = {"configMapRef": {"name": "rows", "key": "r.csv"}, "target": target}
            source["text"] = {"column": "review", "maxTokens": 32}
            fields["dataFile"] = str(tmp_path / "r.csv")
        config = job(model=model, **fields)
        return config.model_copy(update={"data": blocks.Data.model_validate(source | (data or {}))})

    return make


@pytest.mark.parametrize("kind", ["Bert", "Llama"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_it_learns_what_a_text_says(tuning, kind, method):
    run = HereRun(tuning(kind, training={"epochs": 15}, **method)).to_the_end()
    assert run.plan.architecture.config["model_type"] == kind.lower()
    assert run.metrics()["Accuracy", "Test"] > 0.9


def test_it_learns_numbers_too(tuning):
    rows = [f"{'very ' * n}good,{n}.5" for n in range(8)] * 25
    assert HereRun(tuning(rows=rows, training={"epochs": 12})).to_the_end().metrics()["R2", "Test"] > 0.9


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_it_goes_on_with_text_better_than_before(tuning, method):
    config = tuning("Llama", target=None, training={"epochs": 12}, **method)
    before = HereRun(config).metrics()["Perplexity", "Test"]
    run = HereRun(config).to_the_end()
    # Weights that were drawn know nothing: any token is as likely.
    assert before == pytest.approx(run.plan.architecture.vocabulary, rel=0.1)
    # Small matrices beside weights that are drawn can do less than those beside learned ones.
    assert run.metrics()["Perplexity", "Test"] < (0.9 if method else 0.2) * before


def test_it_begins_with_the_weights_of_the_folder(tuning, saved):
    from safetensors.numpy import load_file

    stored = load_file(saved / "Llama" / "model.safetensors")
    state = HereRun(tuning("Llama", target=None)).state
    assert set(state) == set(stored)
    for name, values in stored.items():
        assert np.array_equal(state[name], values), name
    assert "lm_head.weight" not in state


@pytest.mark.parametrize(("kind", "target"), [("Bert", "y"), ("Llama", "y"), ("Llama", None)])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(tuning, tmp_path, kind, target, method):
    # Bert leaves a tenth out each step.
    config = tuning(kind, target=target, training={"epochs": 4, "batchSize": 16, "earlyStopping": {}}, rows=reviews(60), **method)
    changed, _ = changed_alike_when_interrupted(config, tmp_path)
    assert changed


def test_lora_learns_small_matrices_alone_and_the_last_layer(tuning, tmp_path):
    whole, small = (HereRun(tuning(training={"epochs": 1}, **method)) for method in METHODS.values())
    for run in (whole, small):
        run.to_the_end(1).run.save(tmp_path)
        run.size = (tmp_path / "state.safetensors").stat().st_size
    learned = small.run.network.learned()
    assert {name.rsplit(".", 3)[-3] for name in learned if "lora" in name} == {"lora_A", "lora_B"}
    assert any("classifier" in name for name in learned)
    assert small.size < 0.5 * whole.size


def test_lora_of_the_named_layers_changes_no_others(tuning):
    lora = {"rank": 2, "targetModules": ["query", "value"]}
    config = tuning(method="LoRA", lora=lora, training={"epochs": 1})
    start, end = HereRun(config).state, HereRun(config).to_the_end().state
    changed = {name for name, values in end.items() if not np.array_equal(values, start[name])}
    assert all("query.weight" in name or "value.weight" in name or "classifier" in name for name in changed)
    assert any("query.weight" in name for name in changed)


@pytest.mark.parametrize(("kind", "anew"), [("Bert", "classifier"), ("Llama", "score")])
def test_head_only_learns_what_begins_anew_and_nothing_else(tuning, kind, anew):
    config = tuning(kind, method="HeadOnly", training={"epochs": 10})
    before, run = HereRun(config), HereRun(config).to_the_end()
    changed = {name for name, values in run.state.items() if not np.array_equal(values, before.state[name])}
    assert {name.rpartition(".")[0] for name in changed} == {anew}
    assert set(run.run.network.learned()) == changed
    assert run.metrics()["LogLoss", "Test"] < before.metrics()["LogLoss", "Test"]


def test_an_interrupted_run_of_the_head_ends_with_the_weights_of_an_undisturbed_one(tuning, tmp_path):
    config = tuning(method="HeadOnly", training={"epochs": 4, "batchSize": 16, "earlyStopping": {}}, rows=reviews(60))
    changed, _ = changed_alike_when_interrupted(config, tmp_path)
    assert changed


def test_what_was_merged_computes_what_was_learned(tuning):
    run = HereRun(tuning(training={"epochs": 2}, **METHODS["by LoRA"])).to_the_end()
    x = run.dataset.test.x
    with torch.no_grad():
        learned = run.run.network.eval()(torch.from_numpy(x)).numpy()
    merged = load_predictor(blocks.Engine.TORCH, run.plan.architecture, run.state)(x)
    assert merged == pytest.approx(learned, abs=1e-4)


@pytest.mark.parametrize("kind", ["Bert", "Llama"])
def test_an_answer_does_not_depend_on_the_padding_of_its_batch(tuning, kind):
    run = HereRun(tuning(kind))
    network = run.run.network.double().eval()
    short = torch.from_numpy(np.random.default_rng(0).integers(1, 300, (3, 6)))
    padded = torch.nn.functional.pad(short, (0, 9), value=PADDING)
    long = torch.from_numpy(np.random.default_rng(1).integers(1, 300, (2, 15)))
    with torch.no_grad():
        # What Transformers computes its mask with is float32 in places.
        assert torch.allclose(network(short), network(torch.cat([padded, long]))[:3], rtol=0, atol=1e-6)


async def test_a_text_is_told_by_what_was_saved(tuning):
    config = tuning(training={"epochs": 20}, **METHODS["by LoRA"])
    HereRun(config).to_the_end().save()
    client = Client(serving(config))
    assert (await client.infer(client.model.example))[0] == 200
    metadata = json.loads((await client("GET", "/v2/models/m"))[1])
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["parameters"]["family"] == "Pretrained"
    good, bad = "the food was good and in the end the staff was bad", "the food was bad and in the end the staff was good"
    status, answer = await client.infer({"inputs": [words(good, bad)]})
    assert (status, answer["outputs"][0]["data"]) == (200, ["angry", "glad"])


async def test_a_text_is_gone_on_with_by_what_was_saved(tuning):
    config = tuning("Llama", target=None, training={"epochs": 30})
    HereRun(config).to_the_end().save()
    client = Client(serving(config))
    assert (await client.infer(client.model.example))[0] == 200
    status, answer = await client.infer({"inputs": [words("the fox saw")], "parameters": {"max_tokens": 60}})
    assert status == 200
    [story] = answer["outputs"][0]["data"]
    # More than it sees at a time; all of it are words of the fables.
    assert len(story.split()) > 25
    known = set(fable(150).split())
    assert sum(word in known for word in story.split()) > 0.9 * len(story.split())


def test_the_bundle_holds_the_whole_model_and_says_where_it_began(tuning, saved):
    config = tuning(training={"epochs": 1}, **METHODS["by LoRA"])
    HereRun(config).to_the_end().save()
    bundle = read_bundle(Store(config.output))
    assert bundle.manifest.architecture.base == f"file://{saved / 'Bert'}"
    assert not any("lora" in name for name in bundle.parameters)
    assert bundle.tokenizer == (saved / "Bert" / "tokenizer.json").read_bytes()
    [card] = Path(config.output.uri.removeprefix("file://")).glob("MODEL_CARD-*.md")
    assert "bert that tells what a text is, up to 32 tokens at a time" in card.read_text()


@pytest.fixture
def copied(saved, tmp_path):
    """A folder of a model of one's own to change."""
    return lambda kind="Bert": Path(shutil.copytree(saved / kind, tmp_path / f"own-{kind}"))


def test_weights_that_are_not_safetensors_are_not_read(tuning, copied):
    folder = copied()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelInvalid, match="holds no weights as safetensors, and other formats, which may run code, are not read"
    ):
        HereRun(tuning(folder=folder))


def test_code_in_the_folder_is_not_run(tuning, copied, tmp_path):
    folder, trap = copied(), tmp_path / "trap"
    (folder / "modeling_own.py").write_text(f"open({str(trap)!r}, 'w').close()\n")
    change(folder, auto_map={"AutoModelForSequenceClassification": "modeling_own.Model", "AutoConfig": "modeling_own.Config"})
    assert HereRun(tuning(folder=folder, training={"epochs": 1})).to_the_end()
    assert not trap.exists()
    change(folder, model_type="own")
    with pytest.raises(ModelInvalid, match="Transformers has no model of type own that tells what a text is and needs no code"):
        HereRun(tuning(folder=folder))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantization_config": {"bits": 4}}, "holds quantised weights, which cannot be learned further"),
        ({"model_type": None}, "config.json cannot be understood: it names no model_type"),
        ({"max_position_embeddings": 16}, "sees at most 16 tokens at a time: lower data.text.maxTokens from 32"),
        ({"vocab_size": 100}, r"the tokenizer has \d+ tokens, of which the model knows 100"),
        ({"hidden_size": 32}, r"lacks weights that its configuration asks for, .* such as bert.embeddings.LayerNorm.bias"),
        ({"num_hidden_layers": 3}, r"lacks weights .* such as bert.encoder.layer.2.* \(16 of them\)"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_words(tuning, copied, fields, message):
    folder = copied()
    change(folder, **fields)
    with pytest.raises(ModelInvalid, match=message):
        HereRun(tuning(folder=folder))


def test_weights_that_are_damaged_are_refused(tuning, copied):
    folder = copied()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelInvalid, match="cannot be read by Transformers"):
        HereRun(tuning(folder=folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_its_files_is_refused(tuning, copied, name):
    folder = copied()
    (folder / name).unlink()
    with pytest.raises(ModelInvalid, match=f"holds no {name}: model.pretrained.uri is a folder as save_pretrained"):
        HereRun(tuning(folder=folder))


def test_an_encoder_does_not_go_on_with_text(tuning):
    with pytest.raises(ModelInvalid, match=r"\(bert\) sees a whole text at once and cannot go on with one: name a decoder"):
        HereRun(tuning("Bert", target=None))


def test_layers_that_there_are_not_are_refused(tuning):
    with pytest.raises(ModelInvalid, match=r"model.pretrained.lora does not go with .*: No modules were targeted"):
        HereRun(tuning(method="LoRA", lora={"targetModules": ["nowhere"]}))


def test_a_place_that_there_is_not_is_told(tuning, tmp_path):
    with pytest.raises((ModelInvalid, StoreRefused), match="nowhere holds no config"):
        HereRun(tuning(folder=tmp_path / "nowhere"))


@pytest.mark.parametrize(("kind", "target"), [("Bert", "y"), ("Llama", None)])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_is_computed_again_comes_to_the_same(tuning, kind, target, method):
    training = {"epochs": 1, "batchSize": 16}
    again = training | {"parallelism": {"activationCheckpointing": "Full"}}
    plain, recomputed = (
        HereRun(tuning(kind, target=target, training=each, rows=reviews(60), **method)).to_the_end() for each in (training, again)
    )
    for name, values in plain.state.items():
        assert recomputed.state[name] == pytest.approx(values, abs=1e-5), name


def test_two_workers_come_to_what_one_does(tuning, saved, two_workers, tmp_path):
    training = {"epochs": 1, "batchSize": 4, "optimizer": {"type": "SGD"}, "precision": "Float64"}
    # What is left out is drawn by each worker for itself.
    folder = tmp_path / "whole-Llama"
    shutil.copytree(saved / "Llama", folder)
    alone = tuning("Llama", target=None, folder=folder, training=training, method="LoRA")
    two = alone.model_copy(update={"workers": alone.workers.model_copy(update={"min": 2, "max": 2})})
    one, came = HereRun(alone).to_the_end(), two_workers.run(tmp_path / "two", {"lora": Wanted(two)})["lora"]
    assert came.losses == pytest.approx(one.losses, rel=1e-6)
    for name, values in one.state.items():
        assert came.state[name] == pytest.approx(values, abs=1e-6), name


def test_it_is_not_shared_out(tuning):
    config = tuning(training={"parallelism": {"strategy": "FSDP"}})
    config = config.model_copy(update={"workers": config.workers.model_copy(update={"max": 2})})
    with pytest.raises(ModelInvalid, match="a pretrained model is not shared out between workers"):
        HereRun(config)


def test_less_memory_is_needed_where_less_is_learned(tuning):
    methods = ({}, {"method": "LoRA", "lora": {"rank": 1}}, {"method": "HeadOnly"})
    whole, small, head = (state_bytes(HereRun(tuning(**method)).plan) for method in methods)
    # Parameters and their gradients, moments twice; of LoRA the parameters and little more.
    assert 0.25 * whole < small < 0.5 * whole
    assert 0.25 * whole < head < small


@on_a_gpu
@pytest.mark.parametrize("kind", ["Bert", "Llama"])
@pytest.mark.parametrize("method", [{}, {"method": "LoRA", "lora": {"rank": 8}}, {"method": "HeadOnly"}])
def test_a_gpu_learns_further_what_the_processor_does(tuning, saved, tmp_path, kind, method):
    folder = tmp_path / "base"
    shutil.copytree(saved / kind, folder)
    change(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert_learns_alike(tuning(kind, folder=folder, training={"epochs": 4}, **method), tmp_path)
