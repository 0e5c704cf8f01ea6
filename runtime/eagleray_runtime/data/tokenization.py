"""From text to tokens and back, by the library tokenizers (the only module that imports it)."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from eagleray_runtime.errors import ModelInvalid

START, START_NAME = 0, "<|start|>"
"""The token that stands before each text, of the tokenizers that are trained here."""


class Tokenizer:
    """A tokenizer as its file, JSON in UTF-8, describes it."""

    def __init__(self, content: bytes, most: int | None = None) -> None:
        """Read a tokenizer; with `most` texts get what it puts around them, and are cut to so many tokens.

        Raises:
            ModelInvalid: it cannot be understood.
        """
        try:
            self._library = Library.from_str(content.decode())
        except Exception as error:  # the library raises nothing more special
            raise ModelInvalid(f"the tokenizer cannot be understood: {error}: train again") from error
        # A text that holds the name of a special token says just that.
        self._library.encode_special_tokens = True
        self._library.no_padding()
        self._is_marking = most is not None
        if most is None:
            self._library.no_truncation()
        else:
            self._library.enable_truncation(most)

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return int(self._library.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """The tokens of each text, and how many texts were cut."""
        found = self._library.encode_batch_fast(list(texts), add_special_tokens=self._is_marking)
        return [encoded.ids for encoded in found], sum(bool(encoded.overflowing) for encoded in found)

    def decode(self, tokens: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text of tokens that stand after others; bytes that are no UTF-8 become the replacement character."""
        before, whole = self._text(after), self._text([*after, *tokens])
        # Alone they would lose the space before their first word, which many tokenizers leave out where a text begins; and the
        # others may be told differently for what follows.
        return whole.removeprefix(before) if whole.startswith(before) else self._text(tokens)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._library.decode(list(tokens)))


def trained(texts: Iterable[str], most: int) -> bytes:
    """The file of a tokenizer of at most so many tokens: bytes, and pairs of tokens by how often they follow each other.

    Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019, section 2.2), within words alone. Any text has tokens in it.
    """
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=2,
        special_tokens=[START_NAME],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.TemplateProcessing(f"{START_NAME} $A", special_tokens=[(START_NAME, START)])
    return str(library.to_str()).encode()
