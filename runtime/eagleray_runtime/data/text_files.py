"""Texts in files of their own: one in each, or one long text in a single file, which is dealt in passages."""

import hashlib
from collections.abc import Sequence

import numpy as np

from eagleray_runtime.arrays import Bools
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.data.rows import TEST, VALIDATION, Rows
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.storage import Store

TEXT = "text"
"""Name of the column of texts that come in files."""

PASSAGES, LONGEST_PASSAGE = 200, 2000
"""A long text becomes about so many passages, each of at most about so many characters."""


def read(config: TrainingConfig) -> Rows:
    """Read the texts.

    Raises:
        DataInvalid: a file is not UTF-8, or all are empty.
        StoreRefused: they cannot be fetched.
    """
    places: dict[str, Location | None] = {
        "data.uri": config.data_location,
        VALIDATION: config.validation_location,
        TEST: config.test_location,
    }
    found = {field: _texts(location) for field, location in places.items() if location is not None}
    passages = {field: _passages(texts) for field, (texts, _) in found.items()}
    texts = [text or None for parts in passages.values() for text in parts]
    if not any(texts):
        raise DataInvalid("the files hold no text: check data.uri")
    column = Column(Kind.DOCUMENT, np.array(texts, dtype=np.object_))
    digests = [digest for _, digest in found.values()]
    return Rows(
        features=Table({TEXT: column}),
        target_name=TEXT,
        target=column,
        digest=digests[0] if len(digests) == 1 else f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}",
        held_out={field: len(parts) for field, parts in passages.items() if field != "data.uri"},
        groups=None,
        continues=_continues(list(passages.values()), [len(texts) == 1 for texts, _ in found.values()]),
    )


def _texts(location: Location) -> tuple[list[str], str]:
    """The text of each file, and the digest over the files."""
    store = Store(location)
    texts, digest = [], hashlib.sha256()
    for path in store.find():
        content = store.read_path(path)
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
        try:
            texts.append(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DataInvalid(
                f"{path.rsplit('/', 1)[-1]} is no text in UTF-8: {error.reason} at byte {error.start}: convert or remove it"
            ) from error
    return texts, f"sha256:{digest.hexdigest()}"


def _passages(texts: list[str]) -> list[str]:
    """The texts; of a single one its passages, whole lines where these are short enough."""
    if len(texts) != 1:
        return texts
    [text] = texts
    size = min(LONGEST_PASSAGE, max(1, len(text) // PASSAGES))
    found: list[str] = [""]
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), LONGEST_PASSAGE):
            if len(found[-1]) >= size:
                found.append("")
            found[-1] += line[start : start + LONGEST_PASSAGE]
    return found


def _continues(sources: Sequence[list[str]], single: Sequence[bool]) -> Bools | None:
    """Which rows go on with the text of the row before them; None if none does."""
    found = np.concatenate(
        [
            np.arange(len(parts)) > 0 if is_single else np.zeros(len(parts), dtype=np.bool_)
            for parts, is_single in zip(sources, single, strict=True)
        ]
    )
    return found if found.any() else None
