"""Several trials at once, each a task of Ray on a CPU of its own."""

from collections.abc import Iterable, Iterator
from typing import Any

import ray

from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import FailureReason
from eagleray_runtime.data.rows import Rows
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.training import trial
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.trial import Trial
from eagleray_runtime.training.trials import Ended


def results(config: TrainingConfig, rows: Rows, begun: Iterable[Trial], at_once: int) -> Iterator[Ended | StoreRefused]:
    """What each trial came to, in the order in which they end; the next begins when there is room for it."""
    if not ray.is_initialized():
        ray.init(log_to_driver=True)
    # A process that was lost is the end of its trial: with the same memory it would be lost again.
    one_core = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    task = ray.remote(num_cpus=1, max_retries=0, runtime_env=one_core)(_run)
    # Progress is told by the search, not by each of many trials.
    silent = config.model_copy(update={"reports_url": None})
    stored = ray.put(rows)
    left = iter(begun)
    running: dict[Any, Trial] = {}
    while True:
        while len(running) < at_once and (each := next(left, None)) is not None:
            running[task.remote(silent, stored, each)] = each
        if not running:
            return
        [done], _ = ray.wait(list(running), num_returns=1)
        yield _result(done, running.pop(done))


def _run(config: TrainingConfig, rows: Rows, each: Trial) -> Ended | StoreRefused:
    return trial.run(config, rows, each, Progress(config))


def _result(done: Any, each: Trial) -> Ended | StoreRefused:
    try:
        result: Ended | StoreRefused = ray.get(done)
    except ray.exceptions.RayError as error:
        words = f"its process was lost: {str(error).splitlines()[0]}: raise workers.memory or lower search.parallelTrials"
        return Ended(number=each.number, values=each.values, reason=FailureReason.WORKER_LOST, message=words)
    return result
