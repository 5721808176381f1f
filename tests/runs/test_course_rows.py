"""What is said of an average of weights, of held-out images and of an early end."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from qexp.runs.course_rows import averaged_rows, epochs_of, held_out_rows
from qexp.utils.errors import Interrupted
from support.commands import STE, Qexp, Train
from support.short_runs import HELD_OUT
from support.stored_runs import SUMMARY

KEPT = {"images": 1000, "top1_hard": 94.0, "loss": 0.2, "best_top1_hard": 96.5}


@pytest.mark.training
def test_a_run_that_had_stopped_early_says_so_when_it_goes_on(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed behind its last step: there is nothing to resume."""
    rates = [f"recipe.optimizer.{role}.lr=1e-9" for role in ("weight", "norm")]
    words = (*STE, "recipe.epochs=9", "recipe.holdout=16", "recipe.patience=1", *rates)

    def killed(*_: Any, **__: Any) -> None:
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("qexp.experiment.train.summarize", killed)
        assert train(*words).code == 143
    out = train(*words).out
    said = r"^training had stopped early, after epoch [2-8] of 9; what comes after it is done now$"
    assert re.search(said, out, re.MULTILINE)
    assert "resuming" not in out


def test_nothing_is_said_of_what_was_not_asked_for() -> None:
    assert (averaged_rows(0.0), averaged_rows(None), held_out_rows(SUMMARY)) == ([], [], [])
    assert epochs_of({"epochs": 20}) == epochs_of({"epochs": 20, "stopped_early": False, "epochs_trained": 20}) == "20"


def test_an_average_and_an_early_end_are_told() -> None:
    assert averaged_rows(0.999) == [("network", "the moving average of the weights, recipe.ema=0.999")]
    summary = {"held_out": KEPT, "stopped_early": True, "epochs_trained": 12, "epochs": 20}
    assert held_out_rows(summary) == [
        ("held out", "94.00 %  last epoch, 1,000 training images; best 96.50 %"),
        ("stopped early", "after 12 of 20 epochs; schedules over all of them were cut short"),
    ]
    assert held_out_rows({**summary, "stopped_early": False}) == held_out_rows(summary)[:1]
    assert epochs_of(summary, "/") == "12/20"


@pytest.mark.parametrize("kept", [None, 7, [], {}, {**KEPT, "images": "many"}, {**KEPT, "top1_hard": None}])
def test_a_damaged_summary_says_nothing_of_held_out_images(kept: Any) -> None:
    assert held_out_rows({"held_out": kept, "stopped_early": True, "epochs_trained": 3, "epochs": 5}) == []


@pytest.mark.training
def test_every_place_says_that_a_run_was_stopped_early_and_is_an_average(
    qexp: Qexp, train: Train, workspace: Path
) -> None:
    words = (*HELD_OUT[:-1], "seed=4", "recipe.epochs=5", "recipe.ema=0.9")
    report = train(*words).out
    (path,) = workspace.glob("runs/*/*/*/*")
    summary = json.loads((path / "summary.json").read_text())
    trained = summary["epochs_trained"]
    assert trained < 5
    early = f"  stopped early    after {trained} of 5 epochs; schedules over all of them were cut short"
    average = "  network          the moving average of the weights, recipe.ema=0.9"
    shown, evaluated = qexp("runs", "show", path.name[3:]).out, qexp("eval", path, "threads=1").out
    assert "stopped early: 1 epoch without a better held-out accuracy" in report
    assert "chosen by held-out accuracy" in shown
    assert f"  epochs           {trained} of 5" in shown.splitlines()
    assert f" {trained}/5 " in qexp("runs").out
    assert f"seed 4  {trained} of 5 epochs" in report
    assert ", by held-out accuracy" in report
    for text in (report, shown):
        assert {early, average} <= set(text.splitlines())
    assert average in evaluated.splitlines()
    lines = [line for line in report.splitlines() if line.startswith("epoch ")]
    assert len(lines) == trained
    assert all("  test averaged " in line and "  held out " in line for line in lines)
