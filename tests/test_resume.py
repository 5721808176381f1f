"""A run that is killed at any moment, and started again, ends in the same bits as one that was left alone."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import methods
import pytest
from conftest import TINY
from crashes import Prepare, difference, kill_at, only_run, result, run_child
from rich.console import Console

import qexp.experiment.train
from qexp import runs
from qexp.config.compose import compose_job, composing
from qexp.config.config import Config
from qexp.engine.checkpointer import LAST, Checkpoints
from qexp.engine.step import Step
from qexp.engine.train_state import Training
from qexp.experiment import training
from qexp.experiment.runner import perform
from qexp.quantizers.sawb import SawbRange
from qexp.tracking.journal import Journal
from qexp.utils import atomic
from qexp.utils.errors import Diverged

# Three epochs of four steps, and a checkpoint after every second one: in the middle and at the end of epochs.
SHORT = (*TINY, "recipe.epochs=3", "recipe.batch_size=16", "checkpoint.steps=2", "tracking.step_interval=1")
METHODS = {name: (f"quantizer={name}", "init=scratch") for name in methods.NAMES}
# What else has a state of its own: clips searched again, an attribute beside the buffers, a learned clip, dropout, the
# scaler of a loss in half precision, gradients in parts.
OTHERS = {
    "sawb": ("quantizer=ste", "quantizer.grid=sawb", "init=scratch"),
    "two phases": ("quantizer=br", "quantizer.hard_from=0.4", "init=scratch"),
    "pact": ("quantizer=dqa", "quantizer.activation_grid=pact", "init=scratch"),
    "dropout": ("model=mobilenetv2", "quantizer=daq", "bits=4", "init=scratch"),
    "float16": ("quantizer=daq", "recipe.precision=float16", "init=scratch"),
    "parts": ("quantizer=dqa", "recipe.accumulate=2", "init=scratch"),
    "step schedule": ("quantizer=ste", "recipe.schedule.name=step", "recipe.schedule.milestones=[0.5]", "init=scratch"),
}
CASES = METHODS | OTHERS


def half(path: Path, *_: Any, **__: Any) -> None:
    """Cut a file to its half, as if the process had been killed while writing it."""
    os.truncate(path, path.stat().st_size // 2)


def half_a_line(journal: Journal, content: bytes) -> None:
    os.write(journal._file.fileno(), content[: len(content) // 2])


KILLS: dict[str, Prepare] = {
    "before the first step": kill_at(Step, "__call__", 1),
    "in the middle of an epoch": kill_at(Step, "_backward", 6),
    "after an update that nobody took note of": kill_at(Training, "count", 8),
    "in an evaluation": kill_at(training, "evaluate", 2),
    "while a checkpoint is half written": kill_at(
        atomic, "_compare", 3, when=lambda path, _: path.name == "last.pt.tmp", before=half
    ),
    "between the names of two checkpoints": kill_at(
        os, "replace", 2, when=lambda source, target: str(source).endswith("last.pt.tmp")
    ),
    "after the best network and before its state": kill_at(
        Checkpoints, "_write", 3, when=lambda self, name, *_: name == LAST
    ),
    "in the middle of a line of metrics": kill_at(
        Journal, "write", 2, when=lambda self, _: self.path.name == "metrics.jsonl", before=half_a_line
    ),
    "in the middle of a record of TensorBoard": kill_at(
        Journal, "write", 60, when=lambda self, _: "tfevents" in self.path.name, before=half_a_line
    ),
    "after the last checkpoint": kill_at(qexp.experiment.train, "summarize", 1),
    "after the summary": kill_at(qexp.experiment.train, "keep_network", 1),
    "before it could say that it is done": kill_at(
        runs, "write_status", 1, when=lambda path, state, *_: state == "done"
    ),
}


def configuration(*words: str) -> Config:
    with composing():
        job = compose_job((*SHORT, *words))
    assert job.config is not None, job.problems
    return job.config


def train(*words: str) -> Callable[[], int]:
    """What `qexp train` does of these words, without Hydra in front."""
    config = configuration(*words)

    def action() -> int:
        outcome = perform(config, Console(width=200))
        return Diverged.exit_code if outcome.state == "diverged" else int(outcome.state == "failed")

    return action


def search_often() -> None:
    SawbRange.refresh_interval = 5


@dataclass
class References:
    """Results of runs that were left alone, each made when it is asked for."""

    folder: Path
    known: dict[str, dict[str, Any]]

    def of(self, case: str) -> dict[str, Any]:
        if case not in self.known:
            folder = self.folder / case.replace(" ", "-")
            assert run_child(train(*CASES[case]), folder, search_often) == 0, (folder / "log").read_text()
            self.known[case] = result(only_run(folder))
        return self.known[case]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(tmp_path_factory.mktemp("references"), {})


def kill_and_go_on(case: str, kill: Prepare, folder: Path, *words: str) -> dict[str, Any]:
    """Train, be killed, train again; return what came of it."""

    def prepare() -> None:
        search_often()
        kill()

    assert run_child(train(*CASES[case], *words), folder, prepare) == -9, (folder / "log").read_text()
    assert run_child(train(*CASES[case], *words), folder, search_often) == 0, (folder / "log").read_text()
    return result(only_run(folder))


@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_in_the_same_bits(references: References, tmp_path: Path, method: str, kill: str) -> None:
    found = kill_and_go_on(method, KILLS[kill], tmp_path)
    assert difference(references.of(method), found) is None
    assert found["state"] == "done"


@pytest.mark.parametrize("kill", ["in the middle of an epoch", "in an evaluation"])
@pytest.mark.parametrize("case", OTHERS)
def test_all_that_has_a_state_goes_on_with_it(references: References, tmp_path: Path, case: str, kill: str) -> None:
    assert difference(references.of(case), kill_and_go_on(case, KILLS[kill], tmp_path)) is None


def test_a_clip_that_was_searched_in_the_last_step_is_not_searched_again(
    references: References, tmp_path: Path
) -> None:
    """SAWB searches at the beginning of step 6 here, and the state is that after it: its weights have moved since."""
    found = kill_and_go_on("sawb", kill_at(Step, "_backward", 8), tmp_path)
    assert difference(references.of("sawb"), found) is None


def test_a_run_that_is_stuck_at_chance_is_judged_in_the_same_epoch(tmp_path: Path) -> None:
    """What the epochs before the kill gave is not forgotten: five of eight, as without it."""
    words = ("quantizer=fp", "recipe.epochs=8", "recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")
    assert run_child(train(*words), tmp_path, kill_at(Step, "_backward", 14)) == -9
    assert run_child(train(*words), tmp_path) == Diverged.exit_code
    message = runs.read_json(only_run(tmp_path) / "status.json")["message"]
    assert message.startswith("diverged by epoch 5: stuck at chance; ")


def test_runs_differ_where_they_should(references: References) -> None:
    """What compares results can tell them apart."""
    assert "last.pt" in str(difference(references.of("ste"), references.of("sawb")))
    assert len(references.of("daq")["events"]) > 300
    assert len(references.of("daq")["metrics.jsonl"]) == 3
