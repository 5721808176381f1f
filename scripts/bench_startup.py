"""How long `qexp` takes to answer: the median of interleaved runs, beside what Python and torch take by themselves.

    python scripts/bench_startup.py [--runs 5]

`qexp --help` is to answer within 0.5 s. A command that trains cannot start faster than torch is imported.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QEXP = str(Path(sys.executable).parent / "qexp")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "qexp --help": [QEXP, "--help"],
    "import torch, torchvision": [sys.executable, "-c", "import torch, torchvision"],
    "qexp train --dry-run": [QEXP, "train", "--dry-run"],
}


def seconds(command: list[str], folder: str) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of every command (default 5)")
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, command in COMMANDS.items():
                times[name].append(seconds(command, folder))
    for name, values in times.items():
        print(f"{name:<27} {statistics.median(values):6.3f} s  (fastest {min(values):.3f}, of {runs})")


if __name__ == "__main__":
    main()
