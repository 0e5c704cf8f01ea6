"""What the C library does with the memory that a step has freed."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), as glibc's malloc.h numbers them."""

KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Have this process keep freed memory, up to 1 GiB in one piece, for the next step, which needs as much again.

    glibc gives large blocks back to the kernel at once, which clears every page anew when the next step touches it: of an epoch
    of a small convolutional network that was a fifth. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
