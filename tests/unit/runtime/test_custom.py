"""Networks of the user's own: built by the user's function, trained and served as others are, and quoted when they fail."""

import json
import sys

import numpy as np
import pytest

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.config import Location, ServingConfig
from eagleray_runtime.contract.search import Search
from eagleray_runtime.data.loading import load
from eagleray_runtime.errors import DigestMismatch, ModelInvalid, StoreRefused, UserCodeFailed
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.tensors import decode
from eagleray_runtime.storage import Store
from eagleray_runtime.training.code import code_of, read_code
from eagleray_runtime.training.devices import Device, strategy
from eagleray_runtime.training.space import dimensions, with_values
from tests.support.gpus import assert_learns_alike, on_a_gpu
from tests.support.pictures import striped
from tests.support.texts import MOODS, reviews
from tests.support.torch_runs import HereRun, Wanted, changed_alike_when_interrupted
from tests.unit.runtime.test_serving import Client

NETWORK = """
from torch import nn

from layers import hidden


def network(*, inputs, outputs, parameters):
    width = int(parameters["width"])
    return nn.Sequential(hidden(inputs, width), nn.Linear(width, outputs))
"""

LAYERS = """
from torch import nn


def hidden(inputs, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
"""

TWO = {"min": 2, "max": 2, "cpus": 1, "gpus": 0}

CIRCLE = ["a,b,y", *(f"{a / 5},{b / 5},{'in' if a * a + b * b < 30 else 'out'}" for a in range(-8, 9) for b in range(-8, 9))]
SQUARE = ["a,b,y", *(f"{a / 5},{b / 5},{(a * a + b) / 25}" for a in range(-8, 9) for b in range(-8, 9))]


@pytest.fixture
def custom(job, tmp_path):
    """Configuration of a job that learns by a network of its own, of these files."""

    def make(rows=CIRCLE, files=None, *, entrypoint="mine:network", parameters=None, training=None, **fields):
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.py"):
            old.unlink()
        for name, text in ({"mine.py": NETWORK, "layers.py": LAYERS} if files is None else files).items():
            (folder / name).write_text(text)
        block = {"entrypoint": entrypoint, "parameters": {"width": "16"} if parameters is None else parameters}
        taught = {"epochs": 30, "optimizer": {"learningRate": 0.01}} | (training or {})
        fields = {"engine": "Torch", "codeDirectory": str(folder)} | fields
        return job(rows, family="Custom", model={"custom": block}, training=taught, **fields)

    return make


def told(config) -> str:
    """What the user hears of code that fails."""
    with pytest.raises(UserCodeFailed) as failure:
        HereRun(config).to_the_end(1)
    return failure.value.message


class TestReading:
    def test_the_python_files_of_a_config_map_are_the_code_and_nothing_else_in_it(self, custom, tmp_path):
        config = custom()
        (tmp_path / "code" / "README.md").write_text("not code")
        assert read_code(config) == {"mine.py": NETWORK, "layers.py": LAYERS}

    def test_a_uri_is_a_file_or_a_folder_of_files(self, custom, tmp_path):
        custom()
        one = custom(codeDirectory=None, codeLocation=Location(uri=f"file://{tmp_path}/code/mine.py"))
        assert read_code(one) == {"mine.py": NETWORK}
        all_ = custom(codeDirectory=None, codeLocation=Location(uri=f"file://{tmp_path}/code"))
        assert read_code(all_) == {"mine.py": NETWORK, "layers.py": LAYERS}

    def test_a_folder_without_code_is_refused(self, custom, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(StoreRefused, match=r"no file that ends in \.py"):
            read_code(custom(codeDirectory=None, codeLocation=Location(uri=f"file://{tmp_path}/empty")))

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({}, "holds no file that ends in .py"),
            ({"my-net.py": NETWORK}, "my-net.py cannot be imported by its name"),
            ({"mine.py": "#" * (1024 * 1024 + 1)}, "more than 1048576"),
        ],
        ids=["none", "a name that no import has", "too large"],
    )
    def test_files_that_are_no_modules_are_refused(self, custom, files, words):
        with pytest.raises(UserCodeFailed) as refused:
            read_code(custom(files=files))
        assert words in refused.value.message

    def test_an_attempt_goes_on_with_the_code_that_the_first_one_has_read(self, custom, tmp_path):
        checkpoints = Store(Location(uri=f"file://{tmp_path}/checkpoints"))
        first = code_of(custom(), checkpoints)
        assert code_of(custom(files={"mine.py": "changed"}), checkpoints) == first == {"mine.py": NETWORK, "layers.py": LAYERS}

    def test_another_family_has_no_code(self, job, tmp_path):
        assert code_of(job(), Store(Location(uri=f"file://{tmp_path}"))) == {}


class TestSearching:
    def searched(self, config, **parameter):
        return dimensions(config, Search.model_validate({"parameters": [parameter]}))[0]

    def test_what_the_function_is_given_can_be_searched(self, custom):
        config = custom()
        found = self.searched(config, field="model.custom.parameters.hidden_width", choices=["8", "16"])
        assert found.all() == ("8", "16")
        changed = with_values(config, {found.field: "8"})
        assert changed.model.custom.parameters == {"width": "16", "hidden_width": "8"}

    def test_they_are_texts(self, custom):
        with pytest.raises(ModelInvalid, match=r"model\.custom\.parameters\.width is a text: give choices"):
            self.searched(custom(), field="model.custom.parameters.width", numbers=[8])

    def test_there_is_nothing_below_them(self, custom):
        with pytest.raises(ModelInvalid, match="has none below it"):
            self.searched(custom(), field="model.custom.parameters.width.more", choices=["8"])


@pytest.mark.torch
class TestLearning:
    def test_it_tells_classes_apart(self, custom):
        run = HereRun(custom()).to_the_end()
        assert run.metrics()["Accuracy", "Test"] > 0.85
        assert run.plan.architecture.shapes["0.0.weight"] == (16, 2)
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        assert set(run.plan.architecture.buffers) == {f"0.1.{name}" for name in statistics}

    def test_it_learns_numbers(self, custom):
        assert HereRun(custom(SQUARE)).to_the_end().metrics()["R2", "Test"] > 0.8

    def test_an_interrupted_run_ends_as_an_undisturbed_one(self, custom, tmp_path):
        changed, every = changed_alike_when_interrupted(custom(training={"epochs": 4}), tmp_path)
        assert changed == every

    def test_the_seed_draws_the_first_weights(self, custom):
        first, again, other = (HereRun(custom(training={"seed": seed})).state["0.0.weight"] for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_a_checkpoint_of_other_code_is_not_gone_on_from(self, custom, tmp_path):
        before = HereRun(custom(training={"epochs": 4})).to_the_end(2)
        (tmp_path / "checkpoint").mkdir()
        before.run.save(tmp_path / "checkpoint")
        changed = HereRun(custom(files={"mine.py": NETWORK + "\n# changed\n", "layers.py": LAYERS}, training={"epochs": 4}))
        changed.run.restore(tmp_path / "checkpoint")
        assert changed.run.course.epoch == 0
        assert changed.plan.fingerprint != before.plan.fingerprint

    def test_a_weight_that_stands_in_two_places_is_one(self, custom):
        tied = (
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self, inputs, outputs):\n"
            "        super().__init__()\n"
            "        self.first, self.again = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)\n"
            "        self.again.weight = self.first.weight\n"
            "        self.last = nn.Linear(inputs, outputs)\n"
            "    def forward(self, x):\n"
            "        return self.last(self.again(self.first(x).tanh()).tanh())\n"
            "def network(inputs, outputs, parameters):\n"
            "    return Net(inputs, outputs)\n"
        )
        run = HereRun(custom(files={"mine.py": tied})).to_the_end(2)
        assert set(run.state) == {"first.weight", "first.bias", "again.bias", "last.weight", "last.bias"}

    def test_the_code_may_be_in_the_image(self, custom, tmp_path, monkeypatch):
        (tmp_path / "installed").mkdir()
        (tmp_path / "installed" / "shop_networks.py").write_text(LAYERS + NETWORK.replace("from layers import hidden", ""))
        monkeypatch.syspath_prepend(str(tmp_path / "installed"))
        run = HereRun(custom(entrypoint="shop_networks:network", codeDirectory=None)).to_the_end(1)
        assert run.plan.architecture.sources == {}


@pytest.mark.torch
class TestOnSeveralWorkers:
    def test_each_holds_it_whole_and_says_why(self, custom):
        plan = HereRun(custom(workers=TWO)).plan
        chosen, choice = strategy(plan, Device("cuda", memory=1), 2)
        assert (chosen, choice.reason) == ("DDP", "a network of your own is not shared out")

    def test_it_is_not_shared_out_whatever_a_search_tries(self, custom):
        with pytest.raises(ModelInvalid, match="a network of your own is not shared out between workers"):
            HereRun(custom(workers=TWO, training={"parallelism": {"strategy": "FSDP"}}))


@pytest.mark.torch
class TestWords:
    """Each quotes the user's own code, and says what to do."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("def network(:\n", ["cannot be imported", 'File "mine.py", line 1', "SyntaxError"]),
            ("import no_such_library\n", ["cannot be imported", "No module named 'no_such_library'"]),
            ("def build():\n    pass\n", ["mine has no function network"]),
            (
                "def network(inputs, outputs, parameters):\n    return parameters['depth']\n",
                ["ended with an error", 'File "mine.py", line 2, in network', "parameters['depth']", "KeyError: 'depth'"],
            ),
            ("def network(inputs, outputs):\n    pass\n", ["unexpected keyword argument 'parameters'"]),
            ("def network(inputs, outputs, parameters):\n    return [inputs]\n", ["type list", "return a torch.nn.Module"]),
            (
                "from torch import nn\ndef network(inputs, outputs, parameters):\n    return nn.ReLU()\n",
                ["without parameters"],
            ),
            (
                "from torch import nn\ndef network(inputs, outputs, parameters):\n    return nn.LazyLinear(outputs)\n",
                ["use inputs instead of lazy layers"],
            ),
            (
                "from torch import nn\ndef network(inputs, outputs, parameters):\n    return nn.Linear(7, outputs)\n",
                ["failed on rows [4, 2]", "RuntimeError", "shapes cannot be multiplied"],
            ),
            (
                "from torch import nn\ndef network(inputs, outputs, parameters):\n    return nn.Linear(inputs, 5)\n",
                ["took rows [4, 2] to [4, 5] instead of [4, 2]"],
            ),
            (
                "from torch import nn\n"
                "class Net(nn.Linear):\n"
                "    def forward(self, x):\n"
                "        return super().forward(x).detach()\n"
                "def network(inputs, outputs, parameters):\n"
                "    return Net(inputs, outputs)\n",
                ["failed on rows [4, 2]", "does not require grad"],
            ),
            (
                "from torch import nn\n"
                "class Net(nn.Linear):\n"
                "    def forward(self, x):\n"
                "        if self.training:\n"
                "            raise ValueError('only in training')\n"
                "        return super().forward(x)\n"
                "def network(inputs, outputs, parameters):\n"
                "    return Net(inputs, outputs)\n",
                ['File "mine.py", line 5, in forward', "ValueError: only in training"],
            ),
        ],
        ids=[
            "syntax",
            "an import",
            "no function",
            "an exception",
            "the signature",
            "no module",
            "no parameters",
            "lazy",
            "other inputs",
            "other outputs",
            "no gradient",
            "a training step",
        ],
    )
    def test_what_is_wrong_with_the_code(self, custom, text, words):
        message = told(custom(files={"mine.py": text}))
        for each in words:
            assert each in message
        assert "\n" not in message

    def test_a_module_that_the_code_lacks(self, custom):
        assert "the code has no file mine.py; it has other.py" in told(custom(files={"other.py": NETWORK}))

    def test_a_file_must_not_hide_a_library(self, custom):
        message = told(custom(files={"mine.py": NETWORK, "json.py": LAYERS}))
        assert "json.py has the name of a module that the image holds already: rename it" in message
        assert sys.modules["json"] is json


SMALL_BATCHES = """
from torch import nn


class Small(nn.Linear):
    def forward(self, x):
        if len(x) == 777:
            raise ValueError("777 rows")
        return super().forward(x)


def network(*, inputs, outputs, parameters):
    return Small(inputs, outputs)
"""


@pytest.mark.torch
class TestBundle:
    @pytest.fixture
    def saved(self, custom):
        run = HereRun(custom()).to_the_end(3)
        run.save()
        return run

    def serving(self, run, **fields):
        resource = run.config.resource.model_copy(update={"kind": "ModelDeployment"})
        return ServingConfig(resource=resource, revision="r", name="m", model=run.config.output, engine="Torch", **fields)

    def test_it_holds_the_code_as_files_with_digests(self, saved, tmp_path):
        manifest = json.loads((tmp_path / "model" / "bundle.json").read_text())
        assert manifest["architecture"]["sources"] == {}
        assert set(manifest["code"]) == {"mine.py", "layers.py"}
        assert (tmp_path / "model" / manifest["code"]["mine.py"]).read_text() == NETWORK
        assert set(manifest["code"].values()) < set(manifest["files"])
        assert read_bundle(Store(saved.config.output)).manifest.architecture == saved.plan.architecture

    def test_the_card_names_the_code(self, saved, tmp_path):
        [card] = (tmp_path / "model").glob("MODEL_CARD*")
        assert "mine:network of layers.py, mine.py (sha256:" in card.read_text()
        assert "with width=16; 2 inputs, 2 outputs" in card.read_text()

    def test_code_that_was_changed_is_not_loaded(self, saved, tmp_path):
        [code] = (tmp_path / "model").glob("code-mine-*.py")
        code.write_text(NETWORK + "raise SystemExit\n")
        with pytest.raises(DigestMismatch, match="code-mine"):
            load_model(self.serving(saved, remote_code="Allow"))

    def test_it_is_served_as_it_was_trained(self, saved):
        model = load_model(self.serving(saved, remote_code="Allow"))
        answer = model.infer([decode(tensor, None, model.files)[0] for tensor in model.example["inputs"]])
        assert answer["label"][0] in ("in", "out")
        assert answer["probabilities"].sum() == pytest.approx(1)

    async def test_an_error_of_the_network_is_answered_in_its_own_words(self, custom):
        run = HereRun(custom(files={"mine.py": SMALL_BATCHES})).to_the_end(3)
        run.save()
        client = Client(self.serving(run, remote_code="Allow"))
        rows = {"name": "features", "datatype": "FP64", "shape": [1, 2], "data": [0, 0]}
        assert (await client.infer({"inputs": [rows]}))[0] == 200
        status, answer = await client.infer({"inputs": [rows | {"shape": [777, 2], "data": [0] * 1554}]})
        assert (status, client.meter.statuses) == (500, [200, 500])
        assert 'raise ValueError("777 rows")' in answer["error"]

    def test_without_consent_nothing_of_it_runs(self, saved):
        sys.modules.pop("mine", None)
        with pytest.raises(ModelInvalid) as refused:
            load_model(self.serving(saved))
        digest = read_bundle(Store(saved.config.output)).digest
        assert f"set model.remoteCode to Allow and model.digest to {digest}" in refused.value.message
        assert "mine" not in sys.modules

    def test_training_starts_from_it_with_the_same_code_alone(self, saved, custom):
        start = {"location": {"uri": f"{saved.config.output.uri}"}}
        assert HereRun(custom(start=start)).state["1.weight"] == pytest.approx(saved.state["1.weight"])
        with pytest.raises(ModelInvalid, match="They differ in sources"):
            HereRun(custom(files={"mine.py": NETWORK + "#\n", "layers.py": LAYERS}, start=start))


def serving(config):
    """A deployment of what a job has saved."""
    kind = config.resource.model_copy(update={"kind": "ModelDeployment"})
    place = {"model": config.output, "remoteCode": "Allow"}
    return ServingConfig.model_validate({"resource": kind, "revision": "r", "name": "m", "engine": "Torch"} | place)


SHAPED = """
from math import prod

from torch import nn


def network(*, inputs, outputs, parameters):
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(inputs), 16), nn.ReLU(), nn.Linear(16, outputs))
"""


@pytest.mark.torch
async def test_it_learns_from_windows_of_rows_and_answers_them(custom):
    waves = np.sin(np.arange(300) / 2)
    rows = ["t,y", *(f"{t},{value}" for t, value in enumerate(waves))]
    data = {"sequence": {"timeColumn": "t", "windowSteps": 8}}
    config = custom(rows, {"mine.py": SHAPED}, data=data)
    run = HereRun(config).to_the_end()
    assert run.plan.architecture.inputs == (8, 1)
    assert "8x1 inputs, 1 outputs" in run.plan.architecture.words
    assert run.metrics()["R2", "Test"] > 0.95
    run.save()
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 8, 1], "data": waves[100:108].tolist()}
    status, answer = await Client(serving(config)).infer({"inputs": [tensor]})
    assert status == 200
    assert answer["outputs"][0]["data"][0] == pytest.approx(waves[108], abs=0.2)


@pytest.mark.torch
def test_it_learns_from_pictures_in_folders(custom, tmp_path):
    for number in range(30):
        for name in ("across", "down"):
            path = tmp_path / "stripes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(striped(name, number))
    uri = f"file://{tmp_path}/stripes"
    config = custom(files={"mine.py": SHAPED}, dataLocation={"uri": uri})
    data = {"uri": uri, "format": "ImageFolder", "image": {"sizePixels": 16}}
    run = HereRun(config.model_copy(update={"data": blocks.Data.model_validate(data)})).to_the_end()
    assert run.plan.architecture.inputs[:2] == (16, 16)
    assert run.metrics()["Accuracy", "Test"] > 0.9


@pytest.mark.torch
@pytest.mark.parametrize(("shape", "inputs"), [((6, 4, 2), (6, 4, 2)), ((6, 4), (6, 4, 1))], ids=["images", "matrices"])
async def test_it_learns_from_arrays_of_images_and_answers_them(custom, tmp_path, shape, inputs):
    config, images = custom_images(custom, tmp_path, shape)
    run = HereRun(config).to_the_end()
    assert run.plan.architecture.inputs == inputs
    assert run.metrics()["Accuracy", "Test"] == 1
    run.save()
    tensor = {"name": "image", "datatype": "FP64", "shape": [2, *shape], "data": images[:2].ravel().tolist()}
    status, answer = await Client(serving(config)).infer({"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, ["down", "up"])


def test_arrays_of_columns_are_columns(custom, tmp_path):
    config, _ = custom_images(custom, tmp_path, (3,))
    assert load(config).inputs == (3,)


def test_what_does_nothing_to_images_is_refused_of_their_arrays(custom, tmp_path):
    config, _ = custom_images(custom, tmp_path, (6, 4), preparation={"missingNumeric": "Median"})
    with pytest.raises(ModelInvalid, match="images take duplicates, scaling and targetScaling alone"):
        load(config)


def custom_images(custom, tmp_path, shape, **data):
    """Configuration of a job on 80 arrays of a shape, that are brighter or darker, and these."""
    names = np.array(["down", "up"])[np.arange(80) % 2]
    images = np.random.default_rng(0).normal(np.where(names == "up", 1, -1).reshape(-1, *[1] * len(shape)), 0.5, (80, *shape))
    np.savez(tmp_path / "arrays.npz", x=images, y=names)
    source = {"configMapRef": {"name": "rows", "key": "arrays.npz"}, "target": "y"}
    config = custom(files={"mine.py": SHAPED}, dataFile=str(tmp_path / "arrays.npz"))
    return config.model_copy(update={"data": blocks.Data.model_validate(source | data)}), images


WORDS = """
from torch import nn


class Words(nn.Module):
    def __init__(self, vocabulary, outputs):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16, padding_idx=0)
        self.reading = nn.GRU(16, 32, batch_first=True)
        self.telling = nn.Linear(32, outputs)

    def forward(self, x):
        said, _ = self.reading(self.embedding(x))
        return self.telling(said.max(dim=1).values)


def network(*, inputs, outputs, parameters):
    tokens, vocabulary = inputs
    return Words(vocabulary, outputs)
"""


@pytest.mark.torch
def test_it_learns_from_text(custom):
    data = {"text": {"column": "review", "maxTokens": 24}}
    config = custom(["review,y", *reviews(200)], {"mine.py": WORDS}, data=data, training={"optimizer": {"learningRate": 0.01}})
    run = HereRun(config).to_the_end()
    assert run.plan.architecture.inputs[0] == 24
    assert run.metrics()["Accuracy", "Test"] > 0.9
    run.save()
    assert read_bundle(Store(config.output)).manifest.architecture == run.plan.architecture


PLACES = """
from torch import nn


class Places(nn.Module):
    def __init__(self, tokens, vocabulary, outputs):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4, padding_idx=0)
        self.telling = nn.Linear(4 * tokens, outputs)

    def forward(self, x):
        return self.telling(self.embedding(x).flatten(1))


def network(*, inputs, outputs, parameters):
    return Places(*inputs, outputs)
"""


@pytest.mark.torch
async def test_texts_of_any_length_come_as_rows_of_one_length(custom):
    rows = [f"{'so ' * (number % 7)}{MOODS[number % 2]},{MOODS[number % 2]}" for number in range(200)]
    data = {"text": {"column": "review", "maxTokens": 24}}
    config = custom(["review,y", *rows], {"mine.py": PLACES}, data=data, training={"optimizer": {"learningRate": 0.01}})
    run = HereRun(config).to_the_end()
    assert run.metrics()["Accuracy", "Test"] == 1
    run.save()
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["glad"]}
    status, answer = await Client(serving(config)).infer({"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, ["glad"])


@pytest.mark.torch
def test_two_workers_come_to_what_one_does(custom, two_workers, tmp_path):
    plain = LAYERS.replace("nn.BatchNorm1d(width), ", "").replace(", nn.Dropout(0.1)", "")
    config = custom(files={"mine.py": NETWORK, "layers.py": plain}, training={"epochs": 3})
    two = two_workers.run(tmp_path / "runs", {"two": Wanted(config)})["two"]
    assert two.losses == pytest.approx(HereRun(config).to_the_end().losses, rel=1e-3)


@on_a_gpu
@pytest.mark.torch
def test_a_gpu_learns_what_the_processor_learns(custom, tmp_path):
    plain = LAYERS.replace(", nn.Dropout(0.1)", "")
    assert_learns_alike(custom(files={"mine.py": NETWORK, "layers.py": plain}, training={"epochs": 4}), tmp_path)
