"""The files of a network of the user's own, as `model.custom` names them."""

import json
import re
from pathlib import Path

from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.errors import StoreRefused, UserCodeFailed
from eagleray_runtime.storage import Store

FILE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\.py")

MOST_BYTES = 1024 * 1024
"""Of all files, as a ConfigMap holds them."""


KEPT = "code.json"


def code_of(config: TrainingConfig, checkpoints: Store) -> dict[str, str]:
    """The code of a job, texts by file name: as its first attempt has read it, whatever became of it since.

    It is kept beside the checkpoints, so that what is gone on with, folds and trials too, is one and the same network.

    Raises:
        StoreRefused, UserCodeFailed: as `read_code`.
    """
    if config.model.custom is None:
        return {}
    if checkpoints.exists(KEPT):
        kept: dict[str, str] = json.loads(checkpoints.read(KEPT))
        return kept
    code = read_code(config)
    checkpoints.write(KEPT, json.dumps(code).encode())
    return code


def read_code(config: TrainingConfig) -> dict[str, str]:
    """Texts of the files by name as they are now; none where the image holds the code.

    Raises:
        StoreRefused: they cannot be fetched.
        UserCodeFailed: there are none, they are too large, or they are no modules of Python by name or encoding.
    """
    if config.code_directory is not None:
        where = "the ConfigMap of model.custom.configMapRef"
        files = {path.name: path.read_bytes() for path in sorted(Path(config.code_directory).glob("*.py"))}
    elif config.code_location is not None:
        where = config.code_location.uri
        files = _stored(config.code_location)
    else:
        return {}
    if not files:
        raise UserCodeFailed(f"{where} holds no file that ends in .py: put the code there")
    if (size := sum(map(len, files.values()))) > MOST_BYTES:
        raise UserCodeFailed(f"{where} holds {size} bytes of code, more than {MOST_BYTES}: put it into runtime.image instead")
    for name in files:
        if FILE.fullmatch(name) is None:
            raise UserCodeFailed(f"{where}: {name} cannot be imported by its name: use letters, digits and _ alone")
    try:
        return {name: content.decode("utf-8") for name, content in files.items()}
    except UnicodeDecodeError as error:
        raise UserCodeFailed(f"{where} holds code that is not UTF-8: {error}: save it as UTF-8") from error


def _stored(location: Location) -> dict[str, bytes]:
    """A file, or those of a folder."""
    store = Store(location)
    if location.uri.endswith(".py"):
        return {path.rsplit("/", 1)[-1]: store.read_path(path) for path in store.find()}
    names = store.names("*.py")
    if not names:
        raise StoreRefused(f"{store.uri} holds no file that ends in .py: {store.spelling}")
    return {name: store.read(name) for name in names}
