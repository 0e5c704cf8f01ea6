"""A training in a process of its own that may take so much memory and no more.

    python -m tests.support.limited CONFIG MIB

CONFIG is a file with the configuration: by NumPy a whole job is run, by torch one worker, without Ray. The limit is of what the
process takes beyond what it has when everything is imported; 0 is none.
"""

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV

REPOSITORY = Path(__file__).parents[2]
MIB = 2**20


def trained(config: TrainingConfig, mib: int = 0) -> subprocess.CompletedProcess[str]:
    """The finished process of a training, which has written its bundle if it had memory enough."""
    path = Path(config.output.uri.removeprefix("file://")).with_suffix(".json")
    path.write_text(config.model_dump_json(by_alias=True))
    environ = os.environ | {
        ALLOW_FILE_URIS_ENV: "1",
        "OMP_NUM_THREADS": "1",
        # Arrow's own allocator takes a gibibyte of addresses at once, whatever it needs.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # As many heaps as threads would be addresses that nobody uses.
        "MALLOC_ARENA_MAX": "1",
    }
    command = [sys.executable, "-m", "tests.support.limited", str(path), str(mib)]
    return subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=120, check=False)


def main() -> None:
    path, mib = sys.argv[1:]
    config = TrainingConfig.model_validate_json(Path(path).read_bytes())
    train = _numpy if config.engine is Engine.NUMPY else _torch
    train(None)
    if int(mib):
        resource.setrlimit(resource.RLIMIT_DATA, (_data() + int(mib) * MIB,) * 2)
    train(config)


def _numpy(config: TrainingConfig | None) -> None:
    from eagleray_runtime.reports import Reporter
    from eagleray_runtime.training import driver
    from eagleray_runtime.training.progress import Progress

    _start_libraries()
    if config is not None:
        driver.run(config, Progress(config, Reporter(None)))


def _torch(config: TrainingConfig | None) -> None:
    import torch

    from tests.support.torch_runs import HereRun

    _start_libraries()
    if config is not None:
        HereRun(config).to_the_end().save()
    else:
        network = torch.nn.Linear(64, 64)
        network(torch.ones(64, 64)).sum().backward()
        torch.optim.SGD(network.parameters()).step()


def _start_libraries() -> None:
    """Have what they take once: BLAS its buffer, and Arrow its threads, without which it waits forever."""
    content = io.BytesIO()
    parquet.write_table(pa.table({str(number): list(range(1000)) for number in range(64)}), content)
    parquet.read_table(content)
    np.ones((256, 256)) @ np.ones((256, 256))


def _data() -> int:
    """Bytes of the process that are its own and can be written to."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024


if __name__ == "__main__":
    main()
