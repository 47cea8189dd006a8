"""Memory: what a training process asks of the C library's allocator, and how it is told that there is none left."""

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_NEVER = (1 << 31) - 1


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that a training step frees, for the next step to take again.

    Every step allocates and frees the same tens of megabytes. By default glibc hands them back to the kernel, which then
    clears each page anew when it is touched; on some machines a small model's step spends a third of its time in this.
    Memory use stays at its peak instead of going down between steps. Does nothing elsewhere than under glibc, or where
    the environment already sets one of glibc's own variables for this.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if not sys.platform.startswith("linux") or chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def machine_memory(device: torch.device) -> int:
    """Bytes that a process can have on the device at most: all there are, or what its control group is allowed."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # there is no such group, or it says "max"
            limits.append(int(Path(file).read_text(encoding="utf-8")))
    return min(limits)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failed allocation, on whatever device, is what `error` says."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
