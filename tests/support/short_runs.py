"""Short runs of every method and of all that has a state of its own, in processes that may be killed."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from qexp.config.compose import composing
from qexp.config.config import Config
from qexp.experiment.runner import run_experiment
from qexp.quantizers.sawb import SawbRange
from qexp.tracking.journal import Journal
from qexp.utils.errors import Diverged
from support import methods
from support.commands import TINY
from support.crashes import only_run, result, run_child
from support.shared import made_once

# Three epochs of four steps, and a checkpoint after every second one: in the middle and at the end of epochs.
SHORT = (*TINY, "recipe.epochs=3", "recipe.batch_size=16", "checkpoint.steps=2", "tracking.step_interval=1")
METHODS = {name: (f"quantizer={name}", "init=scratch") for name in methods.NAMES}
# Three steps an epoch, and no better accuracy after the first of them: the second is the last.
HELD_OUT = (
    *("quantizer=ste", "recipe.holdout=16", "recipe.patience=1", "recipe.optimizer.weight.lr=1e-6", "init=scratch"),
    "seed=4",
)
# Averaged, clipped, mixed, augmented, with AdamW and images held out.
EVERYTHING = (
    *("recipe.ema=0.9", "recipe.clip_norm=0.5", "recipe.mixup=0.3", "recipe.cutmix=1", "recipe.randaugment=9"),
    *("recipe.holdout=16", "recipe.patience=2", "recipe.label_smoothing=0.1", "recipe.accumulate=2"),
    *("recipe.optimizer.weight.name=adamw", "recipe.optimizer.weight.lr=0.01"),
)
# What else has a state of its own: clips searched again, an attribute beside the buffers, a learned clip, dropout, the
# scaler of a loss in half precision, gradients in parts.
OTHERS = {
    "sawb": ("quantizer=ste", "quantizer.grid=sawb", "init=scratch"),
    "two phases": ("quantizer=br", "quantizer.hard_from=0.4", "init=scratch"),
    "pact": ("quantizer=dqa", "quantizer.activation_grid=pact", "init=scratch"),
    "dropout": ("model=mobilenetv2", "quantizer=daq", "bits=4", "init=scratch"),
    "float16": ("quantizer=daq", "recipe.precision=float16", "init=scratch"),
    "parts": ("quantizer=dqa", "recipe.accumulate=2", "init=scratch"),
    "dampening": ("quantizer=daq", "recipe.dampening=0.1", "init=scratch"),
    "freezing": ("quantizer=daq", "recipe.freezing=0.001", "init=scratch"),
    "clipped": ("quantizer=daq", "recipe.clip_norm=0.5", "recipe.precision=float16", "init=scratch"),
    "averaged": ("quantizer=dqa", "recipe.ema=0.9", "init=scratch"),
    "mixed": ("quantizer=daq", "recipe.mixup=0.3", "recipe.cutmix=1", "recipe.accumulate=2", "init=scratch"),
    "randaugment": ("quantizer=fp", "recipe.randaugment=9", "init=scratch"),
    "held out": HELD_OUT,
    "everything": (*EVERYTHING, "quantizer=daq", "recipe.norm_batches=2", "recipe.freezing=0.001", "init=scratch"),
    "noise in parts": ("quantizer=rq", "quantizer.straight_through=true", "recipe.accumulate=2", "init=scratch"),
    "temperature": ("quantizer=rq", "quantizer.temperature_end=0.3", "recompute=true", "init=scratch"),
    "widths": ("quantizer=dropbits", "bits=4", "quantizer.learn_bits=true", "quantizer.penalty=50", "init=scratch"),
    "points": (
        "quantizer=dropbits",
        "bits=4",
        "quantizer.learn_masks=true",
        "quantizer.sharing=points",
        "init=scratch",
    ),
    "norms": ("quantizer=dqa", "recipe.norm_batches=6", "init=scratch"),
    "step schedule": ("quantizer=ste", "recipe.schedule.name=step", "recipe.schedule.milestones=[0.5]", "init=scratch"),
    "restarts": ("quantizer=ste", "recipe.schedule.restarts=[0.3,0.6]", "init=scratch"),
}
CASES = METHODS | OTHERS


def half(file: int) -> None:
    """Cut an open file to its half, as if the process had been killed while writing it."""
    if name_of(file).endswith(".tmp"):  # and no folder
        os.truncate(file, os.fstat(file).st_size // 2)


def name_of(file: int) -> str:
    """The name of an open file."""
    return Path(os.readlink(f"/proc/self/fd/{file}")).name


def half_a_line(journal: Journal, content: bytes) -> None:
    os.write(journal._file.fileno(), content[: len(content) // 2])


@cache
def configuration(*words: str) -> Config:
    with composing() as composer:
        job = composer.job((*SHORT, *words))
    assert job.config is not None, job.problems
    return job.config


def train(*words: str) -> Callable[[], int]:
    """What `qexp train` does of these words, without Hydra in front."""
    config = configuration(*words)

    def action() -> int:
        outcome = run_experiment(config, Console(width=200))
        return Diverged.exit_code if outcome.state == "diverged" else int(outcome.state == "failed")

    return action


def search_often() -> None:
    SawbRange.refresh_interval = 5


@dataclass
class References:
    """Results of runs that were left alone, each made when it is asked for."""

    folder: Path
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, case: str) -> dict[str, Any]:
        def make(folder: Path) -> None:
            assert run_child(train(*CASES[case]), folder, search_often) == 0, (folder / "log").read_text()

        if case not in self.known:
            self.known[case] = result(only_run(made_once(self.folder / case.replace(" ", "-"), make)))
        return self.known[case]
