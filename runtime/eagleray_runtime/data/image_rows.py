"""The images that a configuration names: NPZ files with an array of them, or a folder for each class."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Data, DataFormat, Family, Image
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.data.naming import listed, no_column
from eagleray_runtime.data.reading import PACKED, Files, arrays_of, kind_of, understood, unpacked
from eagleray_runtime.data.rows import TEST, VALIDATION, Rows, files_of, stored
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid, ModelInvalid
from eagleray_runtime.storage import Store

PICTURE, CLASS = "image", "class"
"""Names of the two columns of a folder of pictures."""

ENDINGS = (".png", ".jpg", ".jpeg")
READERS = 8
"""Pictures that are fetched and decoded at a time."""


@dataclass(frozen=True)
class Source:
    """Images [rows, height, width, channels], their target, groups if these are asked for, and what is to be told of them."""

    images: Column
    target: Column
    groups: Column | None
    digest: str
    notes: list[str]


def are_meant(config: TrainingConfig) -> bool:
    """Whether it is images that are learned from: by a network of the user's own also those in NPZ files, which may hold columns
    in their place.

    Raises:
        DataInvalid, StoreRefused: as `read`.
    """
    data = config.data
    if config.model.family is Family.CONVOLUTIONAL_NETWORK or data.format is DataFormat.IMAGE_FOLDER:
        return True
    if config.model.family is not Family.CUSTOM or data.sample or data.sequence or data.text or data.columns:
        return False
    name, content = next(files_of(config))
    return kind_of(name, data.format) is DataFormat.NPZ and any(map(_is_images, _npz(name, content, data.format).values()))


def read(config: TrainingConfig) -> Rows:
    """Read images and target.

    Raises:
        DataInvalid: there are none, they cannot be understood, or they are not of one size.
        ModelInvalid: this installation cannot read pictures.
        StoreRefused: they cannot be fetched.
    """
    data = config.data
    places: dict[str, Location | None] = {"data.uri": config.data_location}
    places |= {
        field: location
        for field, location in ((VALIDATION, config.validation_location), (TEST, config.test_location))
        if location is not None
    }
    if data.format is DataFormat.IMAGE_FOLDER:
        name, target = PICTURE, CLASS
        sources = _one_kind([_folder(location, data.image or Image()) for location in places.values() if location is not None])
    else:
        if data.target is None:
            raise DataInvalid("data.target is not set: name the array to predict")
        name, target = "", data.target
        sources = []
        for field, location in places.items():
            files = files_of(config) if location is None else stored(location)
            arrays, digest = _arrays(list(files), data.format)
            name = name or _images_among(data, arrays)
            sources.append(_source(field, arrays, name, data, digest))
    shapes = {source.images.values.shape[1:]: field for source, field in zip(sources, places, strict=True)}
    if len(shapes) > 1:
        words = ", ".join(f"{_shape(shape)} in {field}" for shape, field in shapes.items())
        raise DataInvalid(f"the images are of different shapes, {words}: give all the same height, width and channels")
    held_out = {field: len(source.target.values) for field, source in zip(places, sources, strict=True) if field != "data.uri"}
    return Rows(
        features=Table({name: _joined([source.images for source in sources])}),
        target_name=target,
        target=_joined([source.target for source in sources]),
        digest=_digest([source.digest for source in sources]),
        held_out=held_out,
        groups=sources[0].groups,
        notes=[note for source in sources for note in source.notes],
    )


def _joined(columns: Sequence[Column]) -> Column:
    kinds = {column.kind for column in columns}
    if kinds == {Kind.INTEGER, Kind.REAL}:
        kinds = {Kind.REAL}
    if len(kinds) > 1:
        raise DataInvalid("the target is a number in some files and true/false or text in others: write it alike in all")
    return columns[0] if len(columns) == 1 else Column(kinds.pop(), np.concatenate([column.values for column in columns]))


def _digest(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _arrays(files: Files, format_: DataFormat) -> tuple[dict[str, AnyArray], str]:
    """Arrays by name of one NPZ file or of several, one after the other, and the digest of the files."""
    digest = hashlib.sha256()
    parts: list[dict[str, AnyArray]] = []
    for name, content in files:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
        parts.append(_npz(name, content, format_))
        if sorted(parts[-1]) != sorted(parts[0]):
            raise DataInvalid(f"{name} holds the arrays {listed(list(parts[-1]))}, {files[0][0]} holds {listed(list(parts[0]))}")
    if len(parts) == 1:
        return parts[0], f"sha256:{digest.hexdigest()}"
    try:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise DataInvalid(f"the files' arrays do not go together: {error}: write them alike") from error
    return joined, f"sha256:{digest.hexdigest()}"


def _npz(name: str, content: bytes, format_: DataFormat) -> dict[str, AnyArray]:
    if format_ is DataFormat.AUTO and not name.lower().removesuffix(PACKED).endswith(".npz"):
        raise DataInvalid(
            f"{name} is no .npz file, and images come in such files or in folders: set data.format to NPZ or ImageFolder"
        )
    with understood(name, DataFormat.NPZ):
        return arrays_of(unpacked(name, content))


def _is_images(array: AnyArray) -> bool:
    return array.ndim in (3, 4)


def _images_among(data: Data, arrays: dict[str, AnyArray]) -> str:
    """The array to learn from: the one that data.features names, or the only one that holds images."""
    found = [name for name, array in arrays.items() if _is_images(array)]
    for name in data.features or []:
        if name not in arrays:
            raise DataInvalid(no_column("data.features", name, list(arrays)))
        if name not in found:
            raise DataInvalid(
                f"data.features: array {name} has {arrays[name].ndim} dimensions, and images have 3 (rows, height, width) or 4"
            )
    wanted = list(dict.fromkeys(data.features or found))
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        raise DataInvalid(
            f"none of the arrays {listed(list(arrays))} holds images: one of shape [rows, height, width] or "
            "[rows, height, width, channels] is needed, or another family"
        )
    raise DataInvalid(f"the arrays {listed(wanted)} hold images: name one of them in data.features")


def _source(field: str, arrays: dict[str, AnyArray], name: str, data: Data, digest: str) -> Source:
    group = data.split.group_column if field == "data.uri" else None
    for wanted, column in (("data.target", data.target), ("data.split.groupColumn", group), (field, name)):
        if column is not None and column not in arrays:
            raise DataInvalid(no_column(wanted, column, list(arrays)))
    images = arrays[name]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[1] < images.shape[2] == images.shape[3]:
        # Taken as it is written, it would be a stripe with as many channels as it is wide.
        raise DataInvalid(
            f"{field}: array {name} has the shape [{', '.join(map(str, images.shape))}], with channels before height and width: "
            "move them behind, by numpy.moveaxis(array, 1, -1)"
        )
    if images.ndim != 4 or not images.size:
        raise DataInvalid(f"{field}: array {name} has the shape [{', '.join(map(str, images.shape))}], which holds no images")
    if images.dtype.kind == "b":
        images = images.astype(np.uint8)
    if images.dtype.kind not in "uif":
        raise DataInvalid(f"{field}: array {name} holds {images.dtype}, and images are numbers")
    if images.dtype.kind == "f" and not (finite := np.isfinite(images).all(axis=(1, 2, 3))).all():
        raise DataInvalid(
            f"{field}: array {name} has pixels that are not numbers (NaN or infinity) in row {int(np.argmin(finite)) + 1} "
            f"({int((~finite).sum())} such rows): replace them, or leave these images out"
        )
    others = [other for other in arrays if other not in {name, data.target, group}]
    return Source(
        images=Column(Kind.IMAGE, images),
        target=_column(str(data.target), arrays[str(data.target)], len(images), name),
        groups=_column(group, arrays[group], len(images), name) if group is not None else None,
        digest=digest,
        notes=[f"arrays that are not learned from: {listed(others)}"] if others and field == "data.uri" else [],
    )


def _column(name: str, values: Any, rows: int, images: str) -> Column:
    """An array of one value for each row as a column."""
    if values.shape == (rows, 1):
        values = values[:, 0]
    if values.shape != (rows,):
        raise DataInvalid(
            f"array {name} has the shape [{', '.join(map(str, values.shape))}], one value for each of the {rows} images of "
            f"{images} is needed"
        )
    if values.dtype.kind == "b":
        return Column(Kind.BOOLEAN, values.astype(np.float64))
    if values.dtype.kind in "iu":
        return Column(Kind.INTEGER, values.astype(np.float64))
    if values.dtype.kind == "f":
        return Column(Kind.REAL, values.astype(np.float64))
    if values.dtype.kind == "U":
        return Column(Kind.TEXT, np.array([value or None for value in values.tolist()], dtype=np.object_))
    raise DataInvalid(f"array {name} holds {values.dtype}, which is neither a number, true/false nor text")


def _folder(location: Location, wanted: Image) -> Source:
    """The pictures of a folder of folders, in the order of their paths."""
    try:
        # Only here: the image of the NumPy engine holds no Pillow.
        from eagleray_runtime.data import pictures
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"pictures are read by {error.name}, which this image does not hold: set runtime.image to one with torch and Pillow"
        ) from error

    store = Store(location)
    names = [path.removeprefix(f"{store.path}/") for path in store.find_below()]
    seen = [name for name in names if not any(part.startswith((".", "__")) for part in name.split("/"))]
    files = [name for name in seen if name.lower().endswith(ENDINGS)]
    _require_classes(store.uri, seen, files)

    def read_one(name: str) -> tuple[bytes, AnyArray]:
        content = store.read(name)
        try:
            return hashlib.sha256(name.encode() + b"\0" + content).digest(), pictures.decoded(content, wanted.size_pixels)
        except pictures.BadPictureError as error:
            raise DataInvalid(f"{store.uri}/{name} {error}: replace or remove it") from error

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read_one, files))
    grey = sum(pixels.shape[-1] == 1 for _, pixels in found)
    notes = []
    if 0 < grey < len(found):
        notes.append(f"{grey} of {len(found)} pictures are grey and taken as coloured ones of three equal channels")
    if len(files) < len(seen):
        notes.append(f"{len(seen) - len(files)} files that are neither .png, .jpg nor .jpeg left out")
    channels = 1 if grey == len(found) else 3
    images = np.empty((len(found), wanted.size_pixels, wanted.size_pixels, channels), dtype=np.uint8)
    for row, (_, pixels) in enumerate(found):
        images[row] = pictures.in_channels(pixels, channels)
    classes = np.array([name.split("/", 1)[0] for name in files], dtype=np.object_)
    digest = hashlib.sha256(b"".join(digest for digest, _ in found)).hexdigest()
    return Source(Column(Kind.PICTURE, images), Column(Kind.TEXT, classes), None, f"sha256:{digest}", notes)


def _require_classes(uri: str, seen: list[str], files: list[str]) -> None:
    if not files:
        raise DataInvalid(f"{uri} holds no pictures (.png, .jpg, .jpeg): check the path; it needs a folder for each class")
    loose = [name for name in files if "/" not in name]
    if loose:
        raise DataInvalid(
            f"{uri}/{loose[0]} is in no class's folder ({len(loose)} such pictures): move it into the folder of its class"
        )
    empty = {name.split("/", 1)[0] for name in seen if "/" in name} - {name.split("/", 1)[0] for name in files}
    if empty:
        raise DataInvalid(f"{uri}/{min(empty)} holds no pictures (.png, .jpg, .jpeg): fill or remove this folder")


def _one_kind(sources: list[Source]) -> list[Source]:
    """All with as many channels: grey pictures of a part count as coloured if another part has colour."""
    channels = {source.images.values.shape[-1] for source in sources}
    if len(channels) == 1:
        return sources
    return [
        source
        if source.images.values.shape[-1] == 3
        else Source(
            Column(Kind.PICTURE, np.repeat(source.images.values, 3, axis=-1)),
            source.target,
            source.groups,
            source.digest,
            [*source.notes, f"{len(source.target.values)} grey pictures are taken as coloured ones of three equal channels"],
        )
        for source in sources
    ]
