"""Text as rows to learn from: where it is read, how it is divided, and what becomes tokens."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.contract import blocks
from eagleray_runtime.data.loading import clean, folds, load
from eagleray_runtime.data.texts import foreseen, joined, padded, pieces
from eagleray_runtime.errors import DataInvalid, ModelInvalid
from tests.support.texts import fable, reviews

# The library comes with torch: only the torch engine learns from text.
pytestmark = pytest.mark.torch
tokenizers = pytest.importorskip("tokenizers")

START = 0

DECODER = {"transformer": {"architecture": "Decoder"}}


@pytest.fixture
def rows_job(job, tmp_path):
    """Configuration of a job that learns from a column of text in a file of this name and content."""

    def make(name, content, data=None, text=None, **fields):
        (tmp_path / name).write_bytes(content)
        config = job(family="Transformer", engine="Torch", dataFile=str(tmp_path / name), **fields)
        source = {"configMapRef": {"name": "rows", "key": name}, "text": {"column": "review"} | (text or {})}
        target = {} if fields.get("model") else {"target": "y"}
        return config.model_copy(update={"data": blocks.Data.model_validate(source | target | (data or {}))})

    return make


@pytest.fixture
def files_job(job, tmp_path):
    """Configuration of a job that goes on with the text of files, by name."""

    def make(files, data=None, uri="*.txt", **places):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        place = {"uri": f"file://{tmp_path}/{uri}"}
        config = job(family="Transformer", engine="Torch", model=DECODER, dataLocation=place, **places)
        source = {"uri": place["uri"], "format": "Text", "text": {"maxTokens": 16, "vocabularySize": 512}}
        return config.model_copy(update={"data": blocks.Data.model_validate(source | (data or {}))})

    return make


def tokenizer(dataset):
    from eagleray_runtime.data.tokenization import Tokenizer

    return Tokenizer(dataset.tokenizer)


def text_of(dataset, part):
    """The text of a part's pieces, starts left out."""
    stream = [token for row in part.x for token in row[1:] if token not in (PADDING, START)]
    return tokenizer(dataset).decode(stream)


def csv(lines):
    return "\n".join(["review,y", *lines]).encode()


def as_parquet(lines):
    review, y = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table({"review": review, "y": y}), sink)
    return sink.getvalue().to_pybytes()


def as_json_lines(lines):
    pairs = (line.rsplit(",", 1) for line in lines)
    return "\n".join(json.dumps({"review": review, "y": y}) for review, y in pairs).encode()


@pytest.mark.parametrize(
    ("name", "content"), [("r.csv", csv), ("r.parquet", as_parquet), ("r.jsonl", as_json_lines)], ids=["CSV", "Parquet", "JSON"]
)
def test_every_format_of_tables_gives_the_same_rows(rows_job, name, content):
    found = load(rows_job(name, content(reviews(40))))
    expected = load(rows_job("expected.csv", csv(reviews(40))))
    assert found.classes == ["angry", "glad"]
    assert np.array_equal(found.training.x, expected.training.x)
    assert found.inputs == (512, expected.preparation.text.vocabulary)
    assert found.training.x[:, 0].tolist() == [START] * found.training.rows


def test_a_text_in_quotes_may_have_several_lines(rows_job):
    lines = [f'"first line {number}\nsecond, of ""two""",{number % 2}' for number in range(20)]
    dataset = load(rows_job("r.csv", csv(lines)))
    row = dataset.training.x[0]
    assert tokenizer(dataset).decode(row[row != PADDING][1:].tolist()).endswith('\nsecond, of "two"')


def test_the_tokenizer_knows_the_training_part_alone(rows_job):
    known = load(rows_job("r.csv", csv(reviews(100)), data={"split": {"method": "Chronological"}}))
    lines = [*reviews(100)[:80], *(f"xylophone xylophone {line}" for line in reviews(100)[80:])]
    changed = load(rows_job("r.csv", csv(lines), data={"split": {"method": "Chronological"}}))
    assert changed.tokenizer == known.tokenizer
    assert changed.preparation == known.preparation
    assert not np.array_equal(changed.test.x, known.test.x)
    # Byte by byte, for it was never seen.
    assert len(tokenizer(changed).encode(["xylophone"])[0][0]) > 6
    assert len(tokenizer(changed).encode([" staff"])[0][0]) == 1


@pytest.fixture(scope="module")
def fox():
    """A tokenizer that knows few words."""
    from eagleray_runtime.data.tokenization import Tokenizer, trained

    return Tokenizer(trained(["the fox saw the crow"] * 3, 300))


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_has_tokens_of_which_it_can_be_made_again(fox, text):
    [tokens], _ = fox.encode([text])
    assert fox.decode(tokens) == text


def test_a_text_that_names_a_special_token_says_just_that():
    from eagleray_runtime.data.tokenization import START_NAME, Tokenizer, trained

    made = Tokenizer(trained([START_NAME] * 3, 300))
    [tokens], _ = made.encode([START_NAME])
    assert START not in tokens
    assert made.decode(tokens) == START_NAME


def test_a_tokenizer_that_is_none_is_refused():
    from eagleray_runtime.data.tokenization import Tokenizer

    for content in (b"{}", b"\xff", b"[]"):
        with pytest.raises(ModelInvalid, match="the tokenizer cannot be understood"):
            Tokenizer(content)


def test_the_same_text_makes_the_same_tokenizer_on_any_number_of_threads():
    script = (
        "import sys; from eagleray_runtime.data.tokenization import trained; from tests.support.texts import fable;"
        "sys.stdout.buffer.write(trained([fable(300, seed) for seed in range(30)], 700))"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"RAYON_NUM_THREADS": threads}, capture_output=True, check=True
        ).stdout
        for threads in ("1", "3")
    ]
    assert made[0] == made[1]
    assert len(made[0]) > 1000


def test_texts_are_cut_at_their_end_and_padded_to_the_longest():
    from eagleray_runtime.data.tokenization import Tokenizer, trained

    made = Tokenizer(trained(["aaaa"], 300), 4)
    [a], _ = Tokenizer(trained(["aaaa"], 300)).encode(["b"])
    rows, cut = made.encode(["bbbb", "bbb", "b", ""])
    assert (rows, cut) == ([[START, *a * 3], [START, *a * 3], [START, *a], [START]], 1)
    assert padded([[START, 5, 6], [START, 9], []]).tolist() == [[START, 5, 6], [START, 9, -1], [-1, -1, -1]]
    assert padded([]).shape == (0, 1)


def test_each_token_is_foreseen_once():
    found = pieces([[5, 6, 7], [8, 9]], 3, START)
    assert found.tolist() == [[START, 5, 6, 7], [7, START, 8, 9]]
    assert foreseen(found).tolist() == [3, 3]
    longer = pieces([[5, 6, 7], [8, 9, 10]], 3, START)
    assert longer.tolist() == [[START, 5, 6, 7], [7, START, 8, 9], [9, 10, PADDING, PADDING]]
    assert foreseen(longer).tolist() == [3, 3, 1]
    assert pieces([], 3, START).shape == (0, 4)


def test_passages_that_follow_each_other_are_one_text():
    texts = np.array(list("abcdef"), dtype=object)
    continues = np.array([False, True, True, False, True, True])
    assert joined(texts, np.array([0, 1, 3, 5]), continues) == ["ab", "d", "f"]
    assert joined(texts, np.array([0, 1]), None) == ["a", "b"]


def test_of_a_long_text_the_beginning_is_learned_and_the_end_is_tested(files_job):
    story = fable(300)
    dataset = load(files_job({"story.txt": story}))
    parts = [text_of(dataset, part) for part in (dataset.training, dataset.validation, dataset.test)]
    assert "".join(parts) == story
    assert [len(part) / len(story) for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    chosen = {choice.field: choice for choice in dataset.chosen}
    assert chosen["data.split.method"].value == "Chronological"
    assert chosen["model.task"].value == "LanguageModeling"
    assert dataset.training.x.shape[1] == 17
    [note] = dataset.report.notes
    assert note.startswith("335 different tokens; pieces of 16: 165 to train")


def test_a_text_without_lines_is_dealt_too(files_job):
    dataset = load(files_job({"story.txt": "once " * 5000}))
    assert sum(len(text_of(dataset, part)) for part in (dataset.training, dataset.validation, dataset.test)) == 25_000
    assert dataset.test.rows


def test_of_several_files_each_is_one_text(files_job):
    dataset = load(files_job({f"{number}.txt": fable(3, number) for number in range(20)}))
    assert (dataset.report.training, dataset.report.validation, dataset.report.test) == (16, 2, 2)
    # A start stands before each but the first of a part, which nothing foresees.
    assert [(part.x[:, 1:] == START).sum() for part in (dataset.training, dataset.test)] == [15, 1]
    assert {choice.field: choice.value for choice in dataset.chosen}["data.split.method"] == "Random"


def test_parts_may_have_files_of_their_own(files_job, tmp_path):
    other = {"uri": f"file://{tmp_path}/test/end.txt"}
    files = {"story.txt": fable(100), "test/end.txt": fable(20, 7)}
    config = files_job(files, {"split": {"testUri": other["uri"]}}, test_location=other)
    dataset = load(config)
    assert text_of(dataset, dataset.test) == fable(20, 7)
    assert text_of(dataset, dataset.training) + text_of(dataset, dataset.validation) == fable(100)


def test_each_fold_has_a_tokenizer_of_its_own(files_job):
    config = files_job({"story.txt": fable(300)})
    made = list(folds(config, clean(config), 3))
    assert len({fold.tokenizer for fold in made}) == 3
    assert all(fold.validation.rows for fold in made)


def test_a_column_of_text_is_gone_on_with_where_there_is_no_target(rows_job):
    dataset = load(rows_job("r.csv", csv(reviews(40)), model=DECODER, text={"maxTokens": 8}))
    assert dataset.task == "LanguageModeling"
    assert dataset.target == "review"
    assert dataset.training.x.shape[1] == 9
    assert dataset.training.y.sum() == (dataset.training.x[:, 1:] != PADDING).sum()


@pytest.mark.parametrize("model", [None, DECODER], ids=["to tell what it is", "to go on with"])
def test_rows_without_text_are_dropped_and_told(rows_job, model):
    lines = reviews(40)
    lines[3], lines[8] = ",glad", ",angry"
    report = load(rows_job("r.csv", csv(lines), model=model)).report
    assert (report.rows, report.dropped) == (40, 2)
    assert "2 rows without review dropped" in report.notes


def test_texts_that_are_cut_are_told(rows_job):
    lines = [f"{'word ' * (20 if number < 5 else 2)},{number % 2}" for number in range(40)]
    report = load(rows_job("r.csv", csv(lines), text={"maxTokens": 10}, data={"split": {"method": "Random"}})).report
    assert report.changed == 5
    assert "5 texts cut to 10 tokens" in report.notes


def test_equal_texts_are_dropped_where_that_is_asked_for(rows_job):
    lines = [*reviews(40), reviews(40)[0]]
    report = load(rows_job("r.csv", csv(lines), data={"preparation": {"duplicates": "Drop"}})).report
    assert report.dropped == 41 - len(set(lines))


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ({"column": "revue"}, {}, "data.text.column: the data has no column revue: did you mean review?"),
        ({"column": "y"}, {}, "data.text.column y is the target too"),
        ({"column": "n"}, {}, r"column n \(data.text.column\) holds numbers or true/false, no text"),
        ({}, {"columns": [{"name": "review", "type": "Identifier"}]}, "data.text.column review is an Identifier"),
    ],
)
def test_a_column_that_holds_no_text_is_refused(rows_job, text, data, message):
    lines = [f"a word,{number % 2},{number}" for number in range(20)]
    with pytest.raises(DataInvalid, match=message):
        load(rows_job("r.csv", "\n".join(["review,y,n", *lines]).encode(), data=data, text=text))


def test_a_file_that_is_no_text_is_refused_by_name(files_job):
    with pytest.raises(DataInvalid, match=r"b.txt is no text in UTF-8: invalid start byte at byte 3: convert or remove it"):
        load(files_job({"a.txt": "good", "b.txt": b"bad\xff"}))
    with pytest.raises(DataInvalid, match="the files hold no text"):
        load(files_job({"a.txt": "", "b.txt": ""}))


@pytest.mark.parametrize(
    ("model", "data", "training", "error", "message"),
    [
        (DECODER, {"target": "y"}, {}, ModelInvalid, "Decoder goes on with the text itself, and Encoder needs data.target"),
        (DECODER, {}, {"loss": {"type": "CrossEntropy", "labelSmoothing": 0.1}}, ModelInvalid, "by CrossEntropy alone"),
        (DECODER, {"split": {"method": "Stratified"}}, {}, DataInvalid, "Stratified needs classes"),
        (DECODER, {"preparation": {"targetScaling": "Standard"}}, {}, DataInvalid, "is for a target that is a number"),
    ],
)
def test_what_does_not_go_together_is_refused(rows_job, model, data, training, error, message):
    with pytest.raises(error, match=message):
        load(rows_job("r.csv", csv(reviews(40)), data=data, model=model, training=training))


def words_with_spaces():
    """A tokenizer whose tokens are words with the space before them, as those of SentencePiece are, and bytes."""
    from eagleray_runtime.data.tokenization import Tokenizer

    words = ["<unk>", "▁the", "▁crow", "▁sang", "▁", "<0xC3>", "<0xA4>"]
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    library.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.Split("▁", "merged_with_next")
    steps = [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    library.decoder = tokenizers.decoders.Sequence([*steps, tokenizers.decoders.Strip(" ", 1, 0)])
    return Tokenizer(library.to_str().encode())


class TestWhatComesAfter:
    def test_keeps_the_space_before_its_first_word(self):
        tokenizer = words_with_spaces()
        [[the, crow, sang]], _ = tokenizer.encode(["the crow sang"])
        assert tokenizer.decode([crow, sang], after=[the]) == " crow sang"
        assert tokenizer.decode([], after=[the]) == ""

    def test_has_no_space_where_a_text_begins(self):
        tokenizer = words_with_spaces()
        [[the, crow]], _ = tokenizer.encode(["the crow"])
        assert tokenizer.decode([the, crow]) == "the crow"

    def test_is_told_alone_where_it_changes_what_stood_before(self):
        # Two bytes of one letter: the first alone is none.
        assert words_with_spaces().decode([6, 1], after=[5]) == "\ufffd the"
