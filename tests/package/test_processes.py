"""Runs that several processes ask for, and Ctrl-C from a shell."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from support.commands import INTERRUPTED, STOPPING, TINY, OnlyRun, Train
from support.processes import Command, held_elsewhere, wait_until
from support.run_files import state, summary

# Other processes


@pytest.mark.process
def test_a_run_that_is_running_elsewhere_is_skipped_with_that_word(train: Train, configure: Callable) -> None:
    words = ("quantizer=ste", "init=scratch")
    path = runs.run_directory(configure(*TINY, "recipe.epochs=1", *words))
    with held_elsewhere(path) as process:
        result = train(*words)
        assert (result.code, result.err) == (0, "")
        assert result.out == f"skipped: locked by pid {process.pid} on {os.uname().nodename}: {path}\n"
        assert sorted(entry.name for entry in path.iterdir()) == ["lock", "status.json"]


@pytest.mark.process
def test_a_float_net_that_another_process_trains_is_waited_for(
    train: Train, configure: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process dies meanwhile, so that the one that waited trains the float net itself."""
    parent = runs.run_directory(configure(*TINY, "recipe.epochs=1", "quantizer=fp"))
    claim, order = runs.claim, []
    with held_elsewhere(parent) as process:

        def watched(path: Path, *, wait: bool = False) -> Any:
            if wait:
                order.append(path)
                process.kill()
            return claim(path, wait=wait)

        monkeypatch.setattr(runs, "claim", watched)
        result = train("quantizer=ste", "init=fp")
    assert result.code == 0
    assert order == [parent]
    assert f"waiting: locked by pid {process.pid} " in result.out
    assert "float baseline trained" in result.out


LONG = (*TINY, "tracking.tensorboard=false", "quantizer=fp", "recipe.epochs=20")


@pytest.mark.process
def test_two_processes_started_together_never_share_a_run(
    workspace: Path, only_run: OnlyRun, processes: list[Command]
) -> None:
    """One trains; the other says that it is locked, and leaves. Then SIGTERM ends the first with 143."""
    processes += [Command("train", *LONG, "recipe.epochs=100000") for _ in range(2)]
    wait_until(lambda: any(process.code is not None for process in processes))
    (second,) = (process for process in processes if process.code is not None)
    (first,) = (process for process in processes if process is not second)
    out, err = second.communicate()
    path = only_run("fp")
    assert (second.code, err) == (0, "")
    assert out.startswith(f"skipped: locked by pid {first.pid} on ")
    assert runs.state_of(path) == "running"
    wait_until(lambda: (path / "metrics.jsonl").is_file() and (path / "metrics.jsonl").stat().st_size)
    epochs = [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))
    first.send(signal.SIGTERM)
    out, err = first.communicate()
    assert (first.code, err.splitlines()) == (143, ["", f"SIGTERM: {STOPPING}", INTERRUPTED])
    assert (state(path), runs.state_of(path)) == ("interrupted", "interrupted")
    assert not Path("runs/.jobs").exists()


@pytest.mark.process
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on_and_finishes(
    qexp: Train, only_run: OnlyRun, processes: list[Command]
) -> None:
    processes.append(Command("train", *LONG))
    wait_until(lambda: any(file.stat().st_size for file in Path("runs").glob("*/*/*/*/metrics.jsonl")))
    processes[0].send(signal.SIGINT)
    _, err = processes[0].communicate()
    path = only_run("fp")
    again = "; Ctrl-C again does not wait for that"
    assert (processes[0].code, err.splitlines()) == (130, ["", f"SIGINT: {STOPPING}{again}", INTERRUPTED])
    assert state(path) == "interrupted"
    assert not (path / "summary.json").exists()
    assert not Path("runs/.jobs").exists()
    result = qexp("train", *LONG)
    assert (result.code, result.err) == (0, "")
    assert "resuming at step " in result.out
    epochs = [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 21))
    assert (state(path), summary(path)["epochs"]) == ("done", 20)
