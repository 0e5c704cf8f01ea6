"""What of Ray Train's errors a user can act on."""

from types import SimpleNamespace

import pytest

from eagleray_runtime.errors import OutOfMemory, StoreUnavailable, UserCodeFailed, WorkerLost

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
ray = pytest.importorskip("ray")

from ray.train.v2._internal.exceptions import UserExceptionWithTraceback  # noqa: E402
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError  # noqa: E402

from eagleray_runtime.training.torch_failures import final, of_training  # noqa: E402

GONE = ray.exceptions.ActorUnavailableError("its node has gone", None)
MONITOR = "1 worker(s) were killed due to the node running low on memory.\nMemory on the node was 3.86GB used / 4.00GB limit"
OWN = UserCodeFailed("churn.py divides by 0")


def of_worker(failure):
    return WorkerGroupError("a worker failed", {0: failure})


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ControllerError(ray.exceptions.OutOfMemoryError(MONITOR)), OutOfMemory, "running low on memory. Raise workers.memory"),
        (of_worker(ray.exceptions.OutOfMemoryError(MONITOR)), OutOfMemory, "lower training.batchSize"),
        (of_worker(torch.OutOfMemoryError("CUDA out of memory.")), OutOfMemory, "CUDA out of memory"),
        (of_worker(MemoryError()), OutOfMemory, "MemoryError"),
        (of_worker(OWN), UserCodeFailed, "churn.py divides by 0"),
        (of_worker(GONE), WorkerLost, "its node has gone"),
        (ControllerError(GONE), WorkerLost, "more than 3 times"),
    ],
)
def test_a_training_that_ended_is_told_by_its_cause(error, kind, words):
    found = of_training(error, 3)
    assert type(found) is kind
    assert words in found.message


def test_a_preemption_that_cannot_be_survived_is_a_lost_worker():
    error = PreemptionError(SimpleNamespace(preempted_ranks=[0]))
    assert isinstance(of_training(error, 3), WorkerLost)


@pytest.mark.parametrize("error", [of_worker(ValueError("shapes differ")), ControllerError(RuntimeError("no"))])
def test_an_error_of_our_own_code_is_left_as_it_is(error):
    assert of_training(error, 3) is None


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([OWN, RuntimeError("the connection was closed by its peer")], OWN),
        ([UserExceptionWithTraceback(OWN, "Traceback")], OWN),
        ([OWN, GONE], None),
        ([StoreUnavailable("no answer")], None),
        ([ValueError("shapes differ")], None),
    ],
)
def test_only_what_would_fail_again_ends_the_run_at_once(failures, told):
    assert final(failures) is told
