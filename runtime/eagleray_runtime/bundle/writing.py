"""Writing a bundle: every file under a name that carries its content's digest, `bundle.json` last and in one piece."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from safetensors.numpy import save

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.card import model_card
from eagleray_runtime.bundle.manifest import MANIFEST, File, Manifest
from eagleray_runtime.bundle.plots import Plot, loss_curve
from eagleray_runtime.contract.reports import SavedModel
from eagleray_runtime.models.architecture import Custom
from eagleray_runtime.storage import Store


def write_bundle(
    store: Store,
    draft: Manifest,
    parameters: Mapping[str, AnyArray],
    plots: Sequence[Plot] = (),
    tokenizer: bytes | None = None,
) -> SavedModel:
    """Write a bundle; `draft` lacks `weights`, `tokenizer`, `code` and `files`, which are filled in here, `plots` the curve of
    the loss.

    Files have content-addressed names, so a bundle that is there already stays whole until the last write replaces its
    manifest.

    Raises:
        StoreRefused: a file is not taken; no complete bundle is left then but the one that was there before.
    """
    weights = save({name: np.asarray(values, order="C") for name, values in parameters.items()})
    weights_name = _addressed("model", weights, "safetensors")
    drawn = {
        _addressed(plot.stem, plot.svg.encode(), "svg"): plot
        for plot in [loss_curve(draft.history, f"Loss of {draft.lineage.name}"), *plots]
    }
    card = model_card(draft, {name: plot.title for name, plot in drawn.items()}).encode()
    contents = {weights_name: weights, _addressed("MODEL_CARD", card, "md"): card}
    contents |= {name: plot.svg.encode() for name, plot in drawn.items()}
    tokenizer_name = None if tokenizer is None else _addressed("tokenizer", tokenizer, "json")
    if tokenizer is not None and tokenizer_name is not None:
        contents[tokenizer_name] = tokenizer
    architecture, code = draft.architecture, {}
    if isinstance(architecture, Custom):
        for name, text in architecture.sources.items():
            code[name] = _addressed(f"code-{name.removesuffix('.py')}", text.encode(), "py")
            contents[code[name]] = text.encode()
        architecture = architecture.model_copy(update={"sources": {}})
    manifest = draft.model_copy(
        update={
            "architecture": architecture,
            "code": code,
            "weights": weights_name,
            "tokenizer": tokenizer_name,
            "files": {
                name: File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)) for name, content in contents.items()
            },
        }
    )
    manifest_bytes = manifest.model_dump_json(by_alias=True, indent=2).encode()
    store.make_folder()
    store.write_all(contents | {MANIFEST: manifest_bytes})
    return saved_model(store.uri, manifest, manifest_bytes)


def saved_model(uri: str, manifest: Manifest, manifest_bytes: bytes) -> SavedModel:
    """What is reported of a bundle."""
    return SavedModel(
        uri=uri,
        digest=digest_of(manifest_bytes),
        size_bytes=len(manifest_bytes) + sum(file.bytes for file in manifest.files.values()),
        parameters=manifest.architecture.parameters,
        engine=manifest.engine,
    )


def digest_of(content: bytes) -> str:
    """`sha256:` and the hexadecimal digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _addressed(stem: str, content: bytes, ending: str) -> str:
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
