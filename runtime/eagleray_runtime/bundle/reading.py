"""Reading a bundle: every digest is checked before anything is parsed, and nothing in it is executed."""

import hashlib
from dataclasses import dataclass

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.manifest import MANIFEST, Manifest
from eagleray_runtime.bundle.writing import digest_of
from eagleray_runtime.errors import DigestMismatch, ModelInvalid, StoreRefused
from eagleray_runtime.models.architecture import Custom
from eagleray_runtime.storage import Store


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; `digest` is `sha256:` of its manifest's bytes, `parameters` are arrays by name, buffers too;
    `tokenizer` is the file of the tokenizer of a model that takes text."""

    manifest: Manifest
    manifest_bytes: bytes
    digest: str
    parameters: dict[str, AnyArray]
    tokenizer: bytes | None = None


def read_bundle(store: Store, expected_digest: str | None = None) -> Bundle:
    """Read and verify a bundle.

    Raises:
        StoreRefused: there is no complete bundle, or the store does not give it.
        DigestMismatch: the manifest is not the expected one, or a file is not the one that the manifest names.
        ModelInvalid: the manifest or the weights cannot be understood.
    """
    manifest, content = read_manifest(store, expected_digest)
    files: dict[str, bytes] = {}
    for name, file in manifest.files.items():
        files[name] = store.read(name)
        found = hashlib.sha256(files[name]).hexdigest()
        if found != file.sha256:
            raise DigestMismatch(
                f"{store.uri}/{name} is not the file that was written: its sha256 is {found}, {MANIFEST} says {file.sha256}: "
                "restore it, or train the model again"
            )
    for name in filter(None, (manifest.weights, manifest.tokenizer, *manifest.code.values())):
        if name not in files:
            raise ModelInvalid(f"{store.uri}/{MANIFEST} names {name}, but not its digest: train again")
    try:
        parameters = load(files[manifest.weights])
    except SafetensorError as error:
        raise ModelInvalid(f"{store.uri}/{manifest.weights} cannot be read as safetensors: {error}: train again") from error
    shapes = {name: values.shape for name, values in parameters.items()}
    needed = manifest.architecture.shapes | manifest.architecture.buffers
    if shapes != needed:
        raise ModelInvalid(f"{store.uri}/{manifest.weights} holds {shapes}, the architecture needs {needed}: train again")
    tokenizer = files[manifest.tokenizer] if manifest.tokenizer is not None else None
    if isinstance(manifest.architecture, Custom):
        sources = {name: files[file].decode("utf-8", errors="replace") for name, file in manifest.code.items()}
        architecture = manifest.architecture.model_copy(update={"sources": sources})
        manifest = manifest.model_copy(update={"architecture": architecture})
    return Bundle(manifest, content, digest_of(content), parameters, tokenizer)


def read_manifest(store: Store, expected_digest: str | None = None) -> tuple[Manifest, bytes]:
    """The manifest of a complete bundle and its bytes.

    Raises:
        StoreRefused, DigestMismatch, ModelInvalid: as `read_bundle`.
    """
    if not store.exists(MANIFEST):
        raise StoreRefused(
            f"{store.uri} holds no complete bundle ({MANIFEST} is missing): check the path, or wait for the training"
        )
    content = store.read(MANIFEST)
    if expected_digest is not None and digest_of(content) != expected_digest:
        raise DigestMismatch(
            f"{store.uri}/{MANIFEST} has the digest {digest_of(content)}, expected {expected_digest}: "
            "the bundle was replaced or damaged; name the digest that you want, or train again"
        )
    try:
        return Manifest.model_validate_json(content), content
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelInvalid(
            f"{store.uri}/{MANIFEST} is not a manifest that this version reads: {where}: {first['msg']}"
        ) from error
