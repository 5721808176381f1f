"""The command line, in process: the words of a tiny run, and what a command or a sweep left behind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qexp.cli.main import main
from qexp.config.config import Config

# The types of fixtures
Qexp = Callable[..., Any]
Train = Callable[..., Any]
OnlyRun = Callable[..., Path]
Configure = Callable[..., Config]

# What a command says of a signal, and at its end
STOPPING = "stopping after this step, and saving the state"
INTERRUPTED = "qexp train: interrupted; the same command resumes it"

# A run of two steps: 64 images of 8x8 pixels.
TINY = (
    "dataset=synthetic",
    "dataset.train_size=64",
    "dataset.test_size=32",
    "model=resnet20",
    "model.width=0.25",
    "device=cpu",
    "tracking.figures=false",
)


@dataclass(frozen=True)
class Result:
    """How a command ended and what it printed."""

    code: Any
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


def call(*words: str) -> Any:
    """Run a command line and return its exit code."""
    try:
        return main(list(map(str, words)))
    except SystemExit as left:
        return left.code


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its store and what the command printed."""

    store: Path
    out: str

    def run(self, method: str) -> Path:
        (status,) = self.store.glob(f"*/*/{method}-*/*/status.json")
        return status.parent


def refused(qexp: Qexp, *words: str) -> list[str]:
    """Check that `qexp train *words` is refused and creates nothing; return what is said, line by line."""
    result = qexp("train", *words)
    assert (result.code, result.out) == (2, "")
    assert all(line.startswith("qexp train: error: ") for line in result.errors), result.err
    assert list(Path().iterdir()) == []
    return [line.removeprefix("qexp train: error: ") for line in result.errors]


STE = ("quantizer=ste", "init=scratch")
