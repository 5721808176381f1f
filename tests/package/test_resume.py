"""A run that is killed at any moment, and started again, ends in the same bits as one that was left alone."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import qexp.experiment.train
from qexp import quantizers, runs
from qexp.engine.checkpointer import LAST, Checkpointer, read_checkpoint, write_checkpoint
from qexp.engine.step import Step
from qexp.engine.train_state import TrainState
from qexp.experiment import evaluate
from qexp.quantizers import Freezing
from qexp.tracking import EVENT_FILE
from qexp.tracking.journal import Journal
from qexp.utils import atomic
from qexp.utils.errors import Diverged
from support.crashes import Prepare, difference, kill_at, only_run, result, run_child
from support.short_runs import CASES, METHODS, OTHERS, References, half, half_a_line, name_of, search_often, train

pytestmark = pytest.mark.training

KILLS: dict[str, Prepare] = {
    "before the first step": kill_at(Step, "parts", 1),
    "in the middle of an epoch": kill_at(Step, "forward", 6),
    "after an update that nobody took note of": kill_at(TrainState, "count", 8),
    "in an evaluation": kill_at(evaluate, "measure_accuracy", 2),
    "while a checkpoint is half written": kill_at(
        atomic, "sync", 3, when=lambda file: name_of(file) == "last.pt.tmp", before=half
    ),
    "between the names of two checkpoints": kill_at(
        os, "replace", 2, when=lambda source, target: str(source).endswith("last.pt.tmp")
    ),
    "after the best network and before its state": kill_at(
        Checkpointer, "_write", 3, when=lambda self, name, *_: name == LAST
    ),
    "in the middle of a line of metrics": kill_at(
        Journal, "write", 2, when=lambda self, _: self.path.name == "metrics.jsonl", before=half_a_line
    ),
    "in the middle of a line of layers": kill_at(
        Journal, "write", 3, when=lambda self, _: self.path.name == "layers.jsonl", before=half_a_line
    ),
    "in the middle of a record of TensorBoard": kill_at(
        Journal, "write", 60, when=lambda self, _: "tfevents" in self.path.name, before=half_a_line
    ),
    "after the last checkpoint": kill_at(qexp.experiment.train, "summarize", 1),
    "after the summary": kill_at(qexp.experiment.train, "strip_training_state", 1),
    "before it could say that it is done": kill_at(
        runs, "write_status", 1, when=lambda path, state, *_: state == "done"
    ),
}


def kill_and_go_on(case: str, kill: Prepare, folder: Path, *words: str) -> dict[str, Any]:
    """Train, be killed, train again; return what came of it."""

    def prepare() -> None:
        search_often()
        kill()

    assert run_child(train(*CASES[case], *words), folder, prepare) == -9, (folder / "log").read_text()
    assert run_child(train(*CASES[case], *words), folder, search_often) == 0, (folder / "log").read_text()
    return result(only_run(folder))


# Every kill with one method, and every method with two: the moments are those of the loop, the states those of methods.
PAIRS = [("daq", kill) for kill in KILLS] + [
    (method, kill)
    for method in METHODS
    for kill in ("in the middle of an epoch", "after an update that nobody took note of")
    if method != "daq"
]


@pytest.mark.parametrize(("method", "kill"), PAIRS)
def test_a_killed_run_ends_in_the_same_bits(references: References, tmp_path: Path, method: str, kill: str) -> None:
    found = kill_and_go_on(method, KILLS[kill], tmp_path)
    assert difference(references.of(method), found) is None
    assert found["state"] == "done"


@pytest.mark.parametrize("case", OTHERS)
def test_all_that_has_a_state_goes_on_with_it(references: References, tmp_path: Path, case: str) -> None:
    found = kill_and_go_on(case, KILLS["in the middle of an epoch"], tmp_path)
    assert difference(references.of(case), found) is None


@pytest.mark.parametrize("kill", ["before the first step", "in an evaluation", "after the last checkpoint"])
def test_an_average_with_everything_around_it_goes_on_from_any_moment(
    references: References, tmp_path: Path, kill: str
) -> None:
    """Also from a last.pt whose network has new batch-norm statistics and is not the one that was trained."""
    found = kill_and_go_on("everything", KILLS[kill], tmp_path)
    assert difference(references.of("everything"), found) is None
    assert found["summary.json"]["before_norm"] is not None
    assert found["metrics.jsonl"][0]["is_averaged"]


def test_a_run_that_is_stopped_early_stops_there_after_a_kill(references: References, tmp_path: Path) -> None:
    """The best accuracy was in the epoch before the kill, and is not forgotten; nor is the end, after it."""
    for number, kill in enumerate((kill_at(Step, "forward", 5), KILLS["after the last checkpoint"])):
        found = kill_and_go_on("held out", kill, tmp_path / str(number))
        assert difference(references.of("held out"), found) is None
    summary = found["summary.json"]
    assert (summary["epochs"], summary["epochs_trained"], summary["stopped_early"]) == (3, 2, True)
    assert (summary["train_images"], summary["held_out"]["images"]) == (48, 16)
    assert [one["epoch"] for one in found["metrics.jsonl"]] == [1, 2]


def test_a_clip_that_was_searched_in_the_last_step_is_not_searched_again(
    references: References, tmp_path: Path
) -> None:
    """SAWB searches at the beginning of step 6 here, and the state is that after it: its weights have moved since."""
    found = kill_and_go_on("sawb", kill_at(Step, "forward", 8), tmp_path)
    assert difference(references.of("sawb"), found) is None


def test_a_state_without_the_measure_of_oscillation_begins_it_anew(references: References, tmp_path: Path) -> None:
    """Of a version before it: one epoch later there is something to compare with again; all else goes on."""
    assert run_child(train(*CASES["daq"]), tmp_path, kill_at(Step, "forward", 7)) == -9
    last = only_run(tmp_path) / "last.pt"
    content = read_checkpoint(last)
    state = content["training"].pop("oscillation")
    steps = state.pop("steps.")
    assert {name: own["codes"].dtype for name, own in state.items()} == dict.fromkeys(state, torch.uint8)
    assert {own["direction"].dtype for own in state.values()} == {torch.int8}
    assert steps["codes"].numel() == sum(own["codes"].numel() for own in state.values())
    content["training"]["last"].pop("oscillation")
    write_checkpoint(last, content)
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    found, whole = result(only_run(tmp_path)), references.of("daq")
    assert found["last.pt"] == whole["last.pt"]
    assert [one["oscillation"] is None for one in found["metrics.jsonl"]] == [False, True, False]
    assert found["metrics.jsonl"][2]["oscillation"]["changed"] == whole["metrics.jsonl"][2]["oscillation"]["changed"]
    assert whole["metrics.jsonl"][2]["oscillation"]["turned_back"] > 0
    assert found["metrics.jsonl"][2]["oscillation"]["turned_back"] == 0


def test_a_state_knows_of_freezing_only_where_weights_freeze(tmp_path: Path) -> None:
    for case, expected in (("daq", False), ("freezing", True)):
        assert run_child(train(*CASES[case]), tmp_path / case, kill_at(Step, "forward", 12)) == -9
        step = read_checkpoint(only_run(tmp_path / case) / "last.pt")["training"]["step"]
        assert ("freezing" in step) is expected


def test_weights_freeze_in_the_run_that_is_killed(tmp_path: Path) -> None:
    """Else its kills would show nothing."""
    freezings: list[Freezing] = []

    def remember(*arguments: Any) -> Freezing:
        freezings.append(Freezing(*arguments))
        return freezings[-1]

    def prepare() -> None:
        quantizers.Freezing = remember  # type: ignore[assignment, misc]

    def action() -> int:
        code = train(*CASES["freezing"])()
        return 42 if any(own.frozen.any() for own in freezings[0].history.values()) else code

    assert run_child(action, tmp_path, prepare) == 42, (tmp_path / "log").read_text()


def test_a_run_that_is_stuck_at_chance_is_judged_in_the_same_epoch(tmp_path: Path) -> None:
    """What the epochs before the kill gave is not forgotten: five of eight, as without it."""
    words = ("quantizer=fp", "recipe.epochs=8", "recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")
    assert run_child(train(*words), tmp_path, kill_at(Step, "forward", 14)) == -9
    assert run_child(train(*words), tmp_path) == Diverged.exit_code
    message = runs.read_json(only_run(tmp_path) / "status.json")["message"]
    assert message.startswith("diverged by epoch 5: stuck at chance; ")


def test_curves_outlive_a_restart_without_tensorboard(references: References, tmp_path: Path) -> None:
    """That restart writes no curve, and what was written before it stays, and is added to later."""
    kill = kill_at(Step, "forward", 6)
    assert run_child(train(*CASES["daq"]), tmp_path, kill) == -9
    size = read_checkpoint(only_run(tmp_path) / "last.pt")["files"][EVENT_FILE]
    before = (only_run(tmp_path) / EVENT_FILE).read_bytes()[:size]
    assert run_child(train(*CASES["daq"], "tracking.tensorboard=false"), tmp_path, kill_at(Step, "forward", 3)) == -9
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    found, whole = result(only_run(tmp_path)), references.of("daq")
    assert size > 1000
    assert (only_run(tmp_path) / EVENT_FILE).read_bytes().startswith(before)
    assert len(found["events"]) > len(whole["events"]) / 2
    assert [key for key in found if found[key] != whole[key]] in ([], ["events"])


def test_runs_differ_where_they_should(references: References) -> None:
    """What compares results can tell them apart."""
    assert "last.pt" in str(difference(references.of("ste"), references.of("sawb")))
    assert len(references.of("daq")["events"]) > 300
    assert len(references.of("daq")["metrics.jsonl"]) == 3
