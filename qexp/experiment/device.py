"""The device of a run: which one, a network on it, its memory, and operations that give the same bits twice."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from qexp import quantizers
from qexp.config.config import Config
from qexp.utils.errors import UsageError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device(name: str) -> torch.device:
    """Return the device that `name` means; `auto` is CUDA where there is one.

    Raises:
        UsageError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device={name}: must be auto, cpu, cuda, cuda:NUMBER or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device={name}: no CUDA device here; device=cpu or device=auto will run")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device={name}: no MPS device here; device=cpu or device=auto will run")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device={name}: must be auto, cpu, cuda, cuda:NUMBER or mps")
    return device


def place(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """Return `model` on its device, in the memory layout and with the treatment of activations asked for."""
    quantizers.recompute(model, config.recompute)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic  # else each process may choose other algorithms
    else:
        keep_freed_memory()
    if config.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))  # batches come channels last
    return model.to(device)


@contextmanager
def determinism(enabled: bool) -> Iterator[None]:
    """With `enabled`, allow only operations that give the same bits twice; others raise RuntimeError."""
    if not enabled:
        yield
        return
    cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    before, kept = torch.are_deterministic_algorithms_enabled(), (cudnn.deterministic, memory.fill_uninitialized_memory)
    # cuBLAS reads this when the process uses it for the first time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, memory.fill_uninitialized_memory = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.deterministic, memory.fill_uninitialized_memory = kept


def keep_freed_memory() -> bool:
    """Let the process keep what it frees for its next allocation; return whether the C library can (glibc).

    By default glibc maps every tensor of 32 MB or more anew, and gives it back when it is freed: the kernel then clears
    each of its pages again in each step. docs/PERFORMANCE.md has the times with and without.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not Linux, or another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
