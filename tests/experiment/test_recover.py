"""A finished run that has lost its summary gets it again from its checkpoint and its log; nothing is trained."""

import json
import re
import shutil
from pathlib import Path

import pytest

from qexp.engine.checkpointer import read_checkpoint
from qexp.engine.step import Step
from support.commands import STE, TINY, Sweep, Train
from support.run_files import files_of, state, summary
from support.short_runs import HELD_OUT

FORWARD = Step.forward


def without_times(found: dict) -> dict:
    return {key: value for key, value in found.items() if not key.startswith("time_")}


@pytest.fixture(autouse=True)
def _no_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a finished run is trained again")

    for fixture in ("finished", "sweep"):  # which train
        if fixture in request.fixturenames:
            request.getfixturevalue(fixture)
    monkeypatch.setattr(Step, "forward", refuse)


DAMAGED = {
    "lost": lambda text: None,
    "empty": lambda text: "",
    "cut": lambda text: text[:100],
    "a list": lambda text: "[]",
    "one value": lambda text: '{"top1_hard": 50}',
    "not a number": lambda text: re.sub(r'"top1_hard": [^,]*', '"top1_hard": NaN', text),
    "a truth value": lambda text: re.sub(r'"time_seconds": [^,]*', '"time_seconds": true', text),
    "too large": lambda text: re.sub(r'"top1_soft": [^,]*', f'"top1_soft": {10**400}', text),
    "a text": lambda text: re.sub(r'"difference": [^,]*', '"difference": "small"', text),
    "numbers for names": lambda text: text.replace('"unsettled": []', '"unsettled": [1]'),
}


@pytest.mark.parametrize("content", DAMAGED)
def test_a_summary_that_is_lost_or_damaged_is_made_again(train: Train, finished: Path, content: str) -> None:
    before, others = summary(finished), files_of(finished)
    damaged = DAMAGED[content]((finished / "summary.json").read_text())
    (finished / "summary.json").unlink()
    if damaged is not None:
        (finished / "summary.json").write_text(damaged)
    result = train(*STE)
    assert (result.code, result.err) == (0, "")
    assert "its summary.json was lost; it is made again from last.pt and metrics.jsonl" in result.out
    after = summary(finished)
    assert without_times(after) == without_times(before)
    assert after.keys() == before.keys()
    assert after["time_images_per_second"] == before["time_images_per_second"]
    assert {name: data for name, data in files_of(finished).items() if name in ("last.pt", "best.pt")} == {
        name: data for name, data in others.items() if name in ("last.pt", "best.pt")
    }
    assert "already done" in train(*STE).out


def test_the_best_epoch_of_a_summary_made_again_is_that_of_the_network_that_was_kept(
    train: Train, sweep: Sweep, workspace: Path
) -> None:
    """Where bit-widths are learned, another epoch may have been better with others; best.pt tells which counts."""
    shutil.copytree(sweep.store, workspace / "runs")
    (path,) = (workspace / "runs").glob("*/*/dqa-*/*")
    epoch = read_checkpoint(path / "best.pt")["epoch"]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    (kept,) = [line for line in lines if line["epoch"] == epoch]
    (other,) = [line for line in lines if line["epoch"] != epoch]
    other["hard"]["top1"] = 100.0
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (path / "summary.json").unlink()
    assert train(*TINY, "recipe.epochs=2", "tracking.step_interval=1", "quantizer=dqa").code == 0
    after = summary(path)
    assert (after["best_epoch"], after["best_top1_hard"]) == (epoch, kept["hard"]["top1"])


def test_float_and_annealed_networks_get_their_summaries_again(train: Train, sweep: Sweep, workspace: Path) -> None:
    shutil.copytree(sweep.store, workspace / "runs")
    for method in ("fp", "daq", "dqa"):
        (path,) = (workspace / "runs").glob(f"*/*/{method}-*/*")
        before = summary(path)
        (path / "summary.json").unlink()
        (path / "status.json").unlink()
        words = (*TINY, "recipe.epochs=2", "tracking.step_interval=1", f"quantizer={method}")
        assert train(*words).code == 0
        assert without_times(summary(path)) == without_times(before)
        assert state(path) == "done"


STOPPED = ("quantizer=fp", *HELD_OUT[1:], "recipe.epochs=5", "recipe.ema=0.9")


@pytest.fixture
def stopped(train: Train, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped early and has lost its summary; nothing may be trained any more."""
    with monkeypatch.context() as undone:
        undone.setattr(Step, "forward", FORWARD)
        assert "stopped early: " in train(*STOPPED).out
    (path,) = workspace.glob("runs/*/*/*/*")
    (path / "kept.json").write_text((path / "summary.json").read_text())
    (path / "summary.json").unlink()
    return path


@pytest.mark.training
def test_a_run_that_was_stopped_early_gets_its_summary_again(train: Train, stopped: Path) -> None:
    before = json.loads((stopped / "kept.json").read_text())
    assert (before["stopped_early"], before["epochs"], before["ema"]) == (True, 5, 0.9)
    assert before["epochs_trained"] < 5
    assert "it is made again from last.pt and metrics.jsonl" in train(*STOPPED).out
    assert without_times(summary(stopped)) == without_times(before)


@pytest.mark.training
@pytest.mark.parametrize("lines", [0, 1])
def test_a_run_that_was_stopped_early_is_not_trained_again_without_its_log(
    train: Train, stopped: Path, lines: int
) -> None:
    log = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text("".join(log[:lines]))
    result = train(*STOPPED)
    assert result.code == 1
    assert "metrics.jsonl does not tell what its last epoch gave" in result.errors[0]


@pytest.mark.parametrize(
    "line", ["{damaged", '{"epoch": 1}', "[]", "7", '{"epoch": [], "x": 1}', "null", "odd metrics"]
)
def test_without_the_log_nothing_is_lost_and_the_ways_on_are_told(train: Train, finished: Path, line: str) -> None:
    (finished / "summary.json").unlink()
    lines = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
    odd = lines[-1].replace('"top1"', '"top_1"').rstrip() if line == "odd metrics" else line
    (finished / "metrics.jsonl").write_text("".join(lines[:-1]) + f"{odd}\n")
    kept = {name: data for name, data in files_of(finished).items() if name.endswith((".pt", ".jsonl"))}
    result = train(*STE)
    (said,) = result.errors
    assert result.code == 1
    assert "metrics.jsonl does not tell what its last epoch gave" in said
    assert "overwrite=true trains it again" in said
    assert {name: data for name, data in files_of(finished).items() if name.endswith((".pt", ".jsonl"))} == kept
