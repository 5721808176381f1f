"""How the process deals with memory between steps."""

import ctypes

# glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the process keep what it frees for its next allocation; return whether the C library can (glibc).

    By default glibc maps every tensor of 32 MB or more anew, and gives it back when it is freed: the kernel then clears
    each of its pages again in each step. docs/PERFORMANCE.md has the times with and without.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not Linux, or another C library
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))
