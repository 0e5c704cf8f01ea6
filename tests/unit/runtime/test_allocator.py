"""Memory that a step has freed is there for the next one."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import ctypes
import resource
import numpy as np
from eagleray_runtime.training.allocator import keep_freed_memory

PR_SET_THP_DISABLE = 41  # of linux/prctl.h: huge pages would leave little to count
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)

def faults() -> int:
    "Pages that the kernel had to clear for ten steps of 30 MB each."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        outputs = [np.ones(400_000) for _ in range(10)]
        del outputs
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_what_a_step_has_freed_is_not_cleared_anew_for_the_next() -> None:
    ended = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    before, after = map(int, ended.stdout.split())
    assert before > 1_000
    assert after < before / 100
