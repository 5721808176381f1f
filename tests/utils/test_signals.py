"""Ctrl-C, SIGTERM and SIGUSR1: the state is saved, the exit code says why, and the run goes on in the same bits."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from qexp import runs
from qexp.engine.checkpointer import Checkpointer, read_checkpoint
from qexp.engine.step import Step
from qexp.experiment import evaluate
from qexp.experiment.session import Session
from qexp.utils import signals
from qexp.utils.errors import Interrupted
from qexp.utils.signals import StopRequest
from support.commands import STOPPING
from support.crashes import Prepare, difference, kill_at, only_run, result, run_child, start_child, wait_for
from support.short_runs import CASES, References, train

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


def interrupt(method: str, moment: Prepare, folder: Path, code: int) -> Path:
    """Train until the signal, and return the run directory."""
    assert run_child(train(*CASES[method], "checkpoint.steps=0"), folder, moment) == code, (folder / "log").read_text()
    path = only_run(folder)
    assert json.loads((path / "status.json").read_text())["state"] == "interrupted"
    return path


@pytest.mark.parametrize("number", CODES)
def test_a_signal_in_a_step_saves_the_state_after_that_step(
    references: References, tmp_path: Path, number: signal.Signals
) -> None:
    path = interrupt("daq", kill_at(Step, "forward", 6, number=number), tmp_path, CODES[number])
    assert read_checkpoint(path / "last.pt")["training"]["done"] == 6
    assert f"{number.name}: {STOPPING}" in (tmp_path / "log").read_text()
    assert run_child(train(*CASES["daq"]), tmp_path) == 0
    assert "resuming at step 6 of 12, epoch 2 of 3" in (tmp_path / "log").read_text()
    assert difference(references.of("daq"), result(path)) is None


@pytest.mark.parametrize("method", ["fp", "dqa"])
def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(
    references: References, tmp_path: Path, method: str
) -> None:
    """Evaluation takes no part in training: it is done again, as a whole, and reported once."""
    path = interrupt(method, kill_at(evaluate, "measure_accuracy", 1, number=signal.SIGTERM), tmp_path, 143)
    assert read_checkpoint(path / "last.pt")["training"]["done"] == 4
    assert (path / "metrics.jsonl").read_text() == ""
    assert run_child(train(*CASES[method]), tmp_path) == 0
    assert difference(references.of(method), result(path)) is None


def test_a_signal_at_the_end_of_an_epoch_leaves_a_line_for_it(references: References, tmp_path: Path) -> None:
    path = interrupt("br", kill_at(Checkpointer, "epoch", 2, number=signal.SIGINT), tmp_path, 130)
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 2
    assert run_child(train(*CASES["br"]), tmp_path) == 0
    assert difference(references.of("br"), result(path)) is None


def test_a_second_ctrl_c_does_not_wait_for_a_checkpoint(references: References, tmp_path: Path) -> None:
    """In the middle of writing: what was there before is there afterwards."""

    def both() -> None:
        kill_at(Step, "forward", 6, number=signal.SIGINT)()
        kill_at(Checkpointer, "_write", 1, number=signal.SIGINT, when=lambda _, name, *__: name == "last.pt")()

    path = interrupt("ste", both, tmp_path, 130)
    assert not (path / "last.pt").exists()
    assert run_child(train(*CASES["ste"]), tmp_path) == 0
    assert difference(references.of("ste"), result(path)) is None


@pytest.mark.process
def test_a_second_sigterm_does_not_disturb_the_checkpoint(tmp_path: Path) -> None:
    """Slurm sends SIGUSR1, then SIGTERM."""

    def both() -> None:
        kill_at(Step, "forward", 6, number=signal.SIGUSR1)()
        kill_at(Checkpointer, "_write", 1, number=signal.SIGTERM, when=lambda _, name, *__: name == "last.pt")()

    path = interrupt("ste", both, tmp_path, 143)
    assert read_checkpoint(path / "last.pt")["training"]["done"] == 6


def test_a_signal_before_training_stops_at_once(references: References, tmp_path: Path) -> None:
    path = interrupt("ste", kill_at(Session, "__init__", 1, number=signal.SIGTERM), tmp_path, 143)
    assert "stopping after this step" not in (tmp_path / "log").read_text()
    assert run_child(train(*CASES["ste"]), tmp_path) == 0
    assert difference(references.of("ste"), result(path)) is None


def test_a_signal_after_the_last_step_comes_too_late_to_interrupt(references: References, tmp_path: Path) -> None:
    """The run is done; a sweep would stop here."""
    moment = kill_at(Checkpointer, "save", 1, number=signal.SIGTERM, when=lambda _, state: state.epochs == 3)
    assert run_child(train(*CASES["ste"], "checkpoint.steps=0"), tmp_path, moment) == 143
    found = result(only_run(tmp_path))
    assert difference(references.of("ste"), found) is None
    assert found["state"] == "done"


@pytest.mark.process
def test_the_state_is_saved_within_ten_seconds(tmp_path: Path) -> None:
    """From outside, at any moment of a run that would take hours; here within two."""
    pid = start_child(train("quantizer=fp", "recipe.epochs=100000", "checkpoint.steps=0"), tmp_path)
    while not any(file.stat().st_size for file in tmp_path.glob("runs/*/*/*/*/metrics.jsonl")):
        assert not list(tmp_path.glob("runs/*/*/*/*/error.txt")), (tmp_path / "log").read_text()
        time.sleep(0.02)
    sent = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert wait_for(pid) == 143
    assert time.monotonic() - sent < 10
    path = only_run(tmp_path)
    state = read_checkpoint(path / "last.pt")["training"]
    assert state["epochs"] == len((path / "metrics.jsonl").read_text().splitlines())
    assert runs.state_of(path) == "interrupted"


def test_what_a_process_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup, and jobs in the background of a shell, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest().listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_file_asks_to_stop_as_a_signal_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the jobs of a sweep in other processes are reached; it is looked for once a second."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = StopRequest(tmp_path / "stop")
    stop.check()
    signals.ask_to_stop(tmp_path / "stop", signal.SIGINT)
    stop.check()
    now[0] += 1.5
    with pytest.raises(Interrupted) as caught:
        stop.check()
    assert caught.value.exit_code == 130


def test_batches_stop_between_two() -> None:
    stop = StopRequest()
    batches = stop.pausing(["first", "second", "third"])
    assert [next(batches), next(batches)] == ["first", "second"]
    stop.number = signal.SIGTERM
    with pytest.raises(Interrupted):
        next(batches)
