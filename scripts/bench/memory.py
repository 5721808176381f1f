"""Peak memory of a training step. `python memory.py SIZE WORDS...` prints the bytes of one network."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import Row
from networks import DEVICE, Trainee

CASES = {
    "float": ("quantizer=fp",),
    "daq W2A2": ("quantizer=daq", "bits=2"),
    "dqa W2A2": ("quantizer=dqa", "bits=2"),
    "ste W2A2": ("quantizer=ste", "bits=2"),
}


def peak_bytes(size: int, words: list[str]) -> int:
    """Return by how much building a network and three steps raised the peak of this process, or of the device."""
    Trainee("quantizer=fp", size=2)()  # libraries' own memory
    before = resident("VmRSS")
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainee = Trainee(*words, size=size)
    for _ in range(3):
        trainee()
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else resident("VmHWM") - before


def resident(field: str) -> int:
    """Return a size of this process from the kernel, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def rows(size: int) -> Iterator[Row]:
    """Yield the ratios of peak memory to the float network's; each network has a process of its own."""

    def measured(*words: str) -> int:
        command = [sys.executable, __file__, str(size), *words]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

    base = measured(*CASES["float"])
    for name, words in list(CASES.items())[1:]:
        for recompute, goal in (("false", 1.6), ("true", 1.1)):
            peak = measured(*words, f"recompute={recompute}")
            how = " recomputed" if recompute == "true" else ""
            detail = f"{peak / 1e6:.0f} / {base / 1e6:.0f} MB"
            yield Row("memory", f"{name}{how} / float, batch {size}", peak / base, goal, detail=detail)


if __name__ == "__main__":
    print(peak_bytes(int(sys.argv[1]), sys.argv[2:]))
