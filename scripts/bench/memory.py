"""Peak memory of a training step. `python memory.py SIZE WORDS...` prints the bytes of one network."""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import Row
from networks import DEVICE, Trainee
from torch.profiler import ProfilerActivity, profile

CASES = {
    "float": ("quantizer=fp",),
    "daq W2A2": ("quantizer=daq", "bits=2"),
    "dqa W2A2": ("quantizer=dqa", "bits=2"),
    "ste W2A2": ("quantizer=ste", "bits=2"),
}


def peak_bytes(size: int, words: list[str]) -> int:
    """Return the most bytes that tensors took at once while a network was built and trained for two steps.

    On the CPU as torch.profiler saw them come and go; the workspaces of the convolution library are not in it.
    """

    def train() -> None:
        trainee = Trainee(*words, size=size)
        trainee()
        trainee()

    if DEVICE.type == "cuda":
        train()
        return torch.cuda.max_memory_allocated()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        profiler.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text())["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    return max(itertools.accumulate(change for _, change in sorted(changes)))


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
