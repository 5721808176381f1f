"""Whole commands: the time to the first step, and a sweep over two workers."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from measure import Row, interleaved, ratio

FIRST_STEP = """
import os, sys
from qexp.tracking.jsonl import JsonLines
JsonLines.step = lambda self, record: os._exit(0)
from qexp.cli.main import main
sys.exit(main(sys.argv[1:]) or 1)
"""
SWEEP = (
    "-m",
    "quantizer=ste,br",
    "bits=2,4",
    "seed=0,1",
    "init=scratch",
    "recipe.epochs=8",
    "tracking.tensorboard=false",
)
QEXP = (sys.executable, "-m", "qexp")


def run(*command: str) -> None:
    """Carry out a command in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"QEXP_RUNS": folder}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def first_step(repeats: int) -> Iterator[Row]:
    """Yield the time from typing `qexp train` on digits to its first step, over that of the imports alone."""
    actions = {
        "train": lambda: run(sys.executable, "-c", FIRST_STEP, "train"),
        "imports": lambda: run(sys.executable, "-c", "import torch, torchvision"),
    }
    times = interleaved(actions, repeats, warmup=1)
    value, detail = ratio(times, "train", "imports")
    yield Row("start", "qexp train to its first step / import torch, torchvision", value, 2, detail=detail)


def answers(repeats: int) -> Iterator[Row]:
    """Yield the time of commands that do not train, over what Python and torch take by themselves."""
    actions = {
        "help": lambda: run(*QEXP, "--help"),
        "python": lambda: run(sys.executable, "-c", "pass"),
        "dry run": lambda: run(*QEXP, "train", "--dry-run"),
        "imports": lambda: run(sys.executable, "-c", "import torch, torchvision"),
    }
    times = interleaved(actions, repeats, warmup=1)
    _, detail = ratio(times, "help", "python")
    yield Row("answer", "seconds of qexp --help", statistics.median(times["help"]), 0.5, detail=detail)
    value, detail = ratio(times, "dry run", "imports")
    yield Row("answer", "qexp train --dry-run / import torch, torchvision", value, detail=detail)


def sweep(repeats: int) -> Iterator[Row]:
    """Yield how much faster eight runs are with joblib's two workers, one thread each."""
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "threads=1")
    actions = {
        "sequential": lambda: run(*QEXP, "train", *SWEEP),
        "joblib": lambda: run(*QEXP, "train", *SWEEP, *parallel),
    }
    times = interleaved(actions, repeats, warmup=0)
    value, detail = ratio(times, "sequential", "joblib")
    yield Row("sweep", "8 digits runs: sequential / joblib, 2 workers", value, 1.4, True, detail)
