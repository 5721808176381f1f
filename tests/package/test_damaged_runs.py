"""Runs whose files are damaged, or whose disk is full."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.config import recorded_config
from qexp.config.yaml_files import load_yaml
from qexp.engine.checkpointer import read_checkpoint
from qexp.engine.step import Step
from support.crashes import difference, kill_at, only_run, result, run_child
from support.damage import cut, empty, overwrite
from support.shared import made_once
from support.short_runs import CASES, References, train

pytestmark = pytest.mark.process

# A run whose files are damaged


@pytest.fixture
def killed(together: Path, tmp_path: Path) -> Path:
    """The directory of a run that was killed in step 10 of 12, with the states after steps 6 and 8."""

    def make(folder: Path) -> None:
        assert run_child(train(*CASES["daq"]), folder, kill_at(Step, "forward", 10)) == -9

    shutil.copytree(made_once(together / "killed", make), tmp_path, dirs_exist_ok=True)
    path = only_run(tmp_path)
    assert read_checkpoint(path / "last.pt")["training"]["done"] == 8
    assert read_checkpoint(path / "previous.pt")["training"]["done"] == 6
    return path


@pytest.mark.parametrize("damage", [cut, overwrite, empty])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    references: References, killed: Path, tmp_path: Path, damage: Any
) -> None:
    damage(killed / "last.pt")
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    log = (tmp_path / "log").read_text()
    assert "last.pt is damaged: " in log
    assert "previous.pt, the checkpoint before it" in log
    assert "at step 6 of 12" in log
    assert difference(references.of("daq"), result(killed)) is None


def test_two_damaged_checkpoints_start_the_run_over(references: References, killed: Path, tmp_path: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        cut(killed / name)
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert "can be used; the run restarts" in (tmp_path / "log").read_text()
    assert difference(references.of("daq"), result(killed)) is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "layers.jsonl", "events.out.tfevents.qexp"])
def test_a_log_that_was_cut_is_begun_anew_and_changes_nothing_else(
    references: References, killed: Path, tmp_path: Path, name: str
) -> None:
    os.truncate(killed / name, 10)
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert f"{name} is shorter than its checkpoint says; what it held is lost" in (tmp_path / "log").read_text()
    part = "events" if "events" in name else name
    assert difference(references.of("daq"), result(killed)) == f"different: {part}"


def test_a_checkpoint_of_another_run_is_refused_and_what_differs_is_named(killed: Path, tmp_path: Path) -> None:
    other = "recipe.optimizer.weight.lr=0.025"
    assert run_child(train(*CASES["daq"], other), tmp_path, kill_at(Step, "forward", 5)) == -9
    (path,) = (p.parent for p in tmp_path.glob("runs/*/*/*/*/last.pt") if p.parent != killed)
    (path / "last.pt").write_bytes((killed / "last.pt").read_bytes())
    assert run_child(train(*CASES["daq"], other), tmp_path) == 1
    message = runs.read_json(path / "status.json")["message"]
    assert "last.pt is of another run: recipe.optimizer.weight.lr=0.1 instead of 0.025; overwrite=true" in message
    assert run_child(train(*CASES["daq"], other, "overwrite=true"), tmp_path) == 0


def test_overwriting_goes_on_where_it_was_interrupted(references: References, tmp_path: Path) -> None:
    """A queue that starts the same command again and again gets to its end."""
    words = (*CASES["ste"], "overwrite=true")
    assert run_child(train(*CASES["ste"]), tmp_path) == 0
    assert run_child(train(*words), tmp_path, kill_at(Step, "forward", 8)) == -9
    assert run_child(train(*words), tmp_path) == 0
    log = (tmp_path / "log").read_text()
    assert log.count("epoch 1/3") == 2
    assert "resuming at step 6 of 12" in log
    assert difference(references.of("ste"), result(only_run(tmp_path))) is None


# The disk


def small_files(most: int) -> None:
    """Let writing fail beyond so many bytes of a file, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_checkpoint_that_cannot_be_written_ends_in_one_line_and_the_run_goes_on_later(
    references: References, tmp_path: Path
) -> None:
    """The float network alone fits, the state of its training does not; what was there before stays."""
    assert run_child(train(*CASES["daq"]), tmp_path, kill_at(Step, "forward", 4)) == -9
    path = only_run(tmp_path)
    before = (path / "last.pt").read_bytes()
    assert run_child(train(*CASES["daq"]), tmp_path, lambda: small_files(len(before) // 2)) == 1
    status = runs.read_json(path / "status.json")
    assert status["state"] == "failed"
    assert status["message"].endswith(".pt: File too large")
    assert (path / "last.pt").read_bytes() == before
    assert not list(path.glob("*.tmp"))
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert difference(references.of("daq"), result(path)) is None


def test_the_identity_in_a_checkpoint_is_that_of_the_run(killed: Path) -> None:
    assert read_checkpoint(killed / "last.pt")["run"] == recorded_config(load_yaml(killed / "config.yaml")).identity
