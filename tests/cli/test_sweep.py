"""Sweeps: a job that fails does not end the others; what happened is said when it happens, and once more at the end."""

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.cli.closing import retry_words, summary_line
from qexp.cli.exchange import Exchange, exchange
from qexp.cli.jobs import JobRecord
from qexp.engine.step import Step
from qexp.experiment.runner import RunOutcome
from qexp.runs.locks import holding
from qexp.utils.errors import Interrupted
from support.commands import INTERRUPTED, STE, TINY, OnlyRun, Train
from support.crashes import command, kill_at, run_child
from support.endings import failing
from support.processes import Command, held_elsewhere, wait_until
from support.run_files import files_of, state, summary
from support.stored_runs import rows

SWEEP = ("train", "-m", *TINY, "tracking.tensorboard=false", "init=scratch", "quantizer=ste,daq,br", "recipe.epochs=2")
FAILURE = "RuntimeError: out of luck"


def last_line(out: str, beginning: str) -> str:
    return next(line for line in reversed(out.splitlines()) if line.startswith(beginning))


# Failures


@pytest.mark.process
def test_a_failure_is_told_when_it_happens_and_where_it_lies(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("out of luck"), method="daq")
    result = train("-m", "quantizer=ste,daq,br", "init=scratch")
    path = only_run("daq")
    assert result.code == 3
    assert [state(only_run(method)) for method in ("ste", "daq", "br")] == ["done", "failed", "done"]
    assert states_in_table(result.out) == ["done", "failed", "done"]
    assert result.errors == [f"qexp train: failed: {FAILURE}  ({path}/error.txt)"]
    assert FAILURE in (path / "error.txt").read_text()
    assert runs.read_json(path / "status.json")["message"] == FAILURE
    lines = result.out.splitlines()
    assert "3 jobs: 2 done, 1 failed" in lines
    (told,) = (line for line in lines if line.startswith("  failed: "))
    assert "quantizer=daq" in told
    assert told.endswith(f"({path}/error.txt)")


@pytest.mark.process
def test_a_failure_stands_before_what_later_jobs_print(tmp_path: Path) -> None:
    """Both streams in one file, in order."""

    def prepare() -> None:
        real = Step.forward

        def break_daq(self: Step, *arguments: Any) -> Any:
            if any("daq" in type(module).__module__ for module in self.model.modules()):
                raise RuntimeError("out of luck")
            return real(self, *arguments)

        Step.forward = break_daq  # type: ignore[method-assign]

    assert run_child(command(SWEEP), tmp_path, prepare) == 3
    log = (tmp_path / "log").read_text()
    assert log.index("daq W2A2  ") < log.index(f"failed: {FAILURE}") < log.index("br W2A2  ")


@pytest.mark.training
def test_the_command_for_the_failed_job_runs_that_job(
    train: Train, qexp: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, RuntimeError("out of luck"), method="daq")
        result = train("-m", "quantizer=ste,daq,br", "init=scratch", "recipe.schedule.milestones=[0.5,0.75]")
    advice = last_line(result.out, "again, without those that are done: qexp train ").partition(": qexp ")[2]
    words = shlex.split(advice)
    assert "-m" not in words
    assert "quantizer=daq" in words
    assert qexp(*words).code == 0
    assert [state(only_run(method)) for method in ("ste", "daq", "br")] == ["done"] * 3


@pytest.mark.process
def test_the_command_for_several_failed_jobs_is_the_sweep(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("out of luck"))
    result = train("-m", "quantizer=ste,daq", "init=scratch")
    words = shlex.split(last_line(result.out, "again, without those that are done: "))
    assert words[words.index("train") + 1] == "-m"
    assert "quantizer=ste,daq" in words
    assert "2 jobs: 2 failed" in result.out


@pytest.mark.process
def test_on_error_stop_begins_no_further_job(train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("out of luck"), method="daq")
    result = train("-m", "quantizer=ste,daq,br,dqa", "init=scratch", "on_error=stop")
    assert result.code == 3
    assert "4 jobs: 1 done, 1 failed, 2 not run" in result.out
    assert not list(Path("runs").glob("*/*/br-*"))
    assert (state(only_run("ste")), state(only_run("daq"))) == ("done", "failed")


@pytest.mark.process
def test_on_error_stop_holds_for_jobs_of_another_launcher(
    train: Train, only_run: OnlyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one process joblib runs them in this one."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    failing(monkeypatch, RuntimeError("out of luck"), method="daq")
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "quantizer=ste,daq,br", "init=scratch")
    result = train("-m", *words, "on_error=stop")
    assert result.code == 3
    assert "3 jobs: 1 done, 1 failed, 1 not run" in result.out
    assert (state(only_run("ste")), state(only_run("daq"))) == ("done", "failed")


@pytest.mark.training
def test_a_sweep_counts_what_was_done_before_and_what_runs_elsewhere(train: Train, configure: Train) -> None:

    assert train("quantizer=ste", "init=scratch").code == 0
    path = runs.run_directory(configure(*TINY, "recipe.epochs=1", "quantizer=br", "init=scratch"))
    with held_elsewhere(path):
        result = train("-m", "quantizer=ste,br,daq", "init=scratch")
    assert result.code == 0
    assert "3 jobs: 1 skipped, 1 locked, 1 done" in result.out
    assert not Path("runs/.jobs").exists()


@pytest.mark.training
def test_a_diverged_job_is_a_failure_of_its_sweep(train: Train) -> None:
    result = train("-m", "recipe.optimizer.weight.lr=1e30,0.1", "quantizer=fp", "recipe.epochs=2")
    states = sorted(state(path.parent) for path in Path("runs").glob("*/*/fp-*/*/status.json"))
    assert (result.code, states) == (3, ["diverged", "done"])
    assert "2 jobs: 1 diverged, 1 done" in result.out
    (line,) = result.errors
    assert line.startswith("qexp train: diverged: diverged ")


# Signals


@pytest.mark.process
def test_a_signal_ends_a_sweep_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """In the second of three jobs."""
    second = kill_at(Step, "forward", 6, number=signal.SIGTERM)
    assert run_child(command(SWEEP), tmp_path, second) == 143
    log = (tmp_path / "log").read_text()
    assert "3 jobs: 1 done, 1 interrupted, 1 not run" in log
    assert log.endswith(f"{INTERRUPTED}\n")
    assert not (tmp_path / "runs" / ".jobs").exists()
    assert run_child(command(SWEEP), tmp_path) == 0
    assert "3 jobs: 1 skipped, 2 done" in (tmp_path / "log").read_text()


def test_jobs_of_a_sweep_that_is_stopped_do_not_begin(tmp_path: Path) -> None:
    shared = Exchange(tmp_path)
    assert not shared.is_halted
    shared.halt()
    assert shared.is_halted
    (tmp_path / "halt").unlink()
    shared.stop_file.write_text("15")
    assert shared.is_halted


# In other processes

LONG = (*TINY, "tracking.tensorboard=false", "threads=1", "quantizer=fp", "recipe.epochs=100000")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture
def in_parallel(workspace: Path) -> Iterator[Command]:
    """A sweep of three jobs in two processes, in a group of its own as if from a terminal."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = Command("train", "-m", *LONG, *JOBLIB, "seed=0,1,2", group=True)
    yield process
    process.kill()


@pytest.mark.process
def test_ctrl_c_reaches_the_jobs_of_a_parallel_sweep(in_parallel: Command) -> None:
    """The terminal sends it to all processes; both runs save their states, the third job does not begin."""

    def both_train() -> bool:
        assert in_parallel.code is None
        return sum(file.stat().st_size > 0 for file in Path("runs").glob("*/*/*/*/metrics.jsonl")) == 2

    wait_until(both_train, 90)
    os.killpg(in_parallel.pid, signal.SIGINT)
    out, err = in_parallel.communicate()
    assert in_parallel.code == 130
    assert err.endswith(f"{INTERRUPTED}\n")
    assert "Traceback" not in out + err
    assert "3 jobs: 2 interrupted, 1 not run" in out
    states = [json.loads(path.read_text())["state"] for path in Path("runs").glob("*/*/*/*/status.json")]
    assert states == ["interrupted"] * 2
    assert len(list(Path("runs").glob("*/*/*/*/last.pt"))) == 2
    assert not Path("runs/.jobs").exists()


def trainer_of(seed: int) -> int | None:
    """The process that trains a run, None where nobody does."""
    for lock in Path("runs").glob(f"*/*/*/s{seed}-*/lock"):
        words = lock.read_text().split()
        if len(words) > 1 and runs.state_of(lock.parent) == "running" and (lock.parent / "metrics.jsonl").exists():
            return int(words[1])
    return None


@pytest.mark.process
def test_a_process_that_is_killed_once_costs_no_job(workspace: Path) -> None:
    words = [word.replace("=100000", "=150") for word in LONG]
    process = Command("train", "-m", *words, *JOBLIB, "seed=0,1,2", "checkpoint.steps=2", group=True)
    try:
        wait_until(lambda: trainer_of(0) is not None, 90)
        os.kill(trainer_of(0) or 0, signal.SIGKILL)
        out, err = process.communicate(240)
    finally:
        process.kill()
    assert (process.code, err.count("Traceback")) == (0, 0), out + err
    assert "a process of the launcher died; its jobs go on" in err
    assert "3 jobs: 3 done" in out
    assert not Path("runs/.jobs").exists()


@pytest.mark.slow
def test_a_job_whose_process_always_dies_is_one_failed_job(workspace: Path) -> None:
    words = [word.replace("=100000", "=150") for word in LONG]
    process = Command("train", "-m", *words, *JOBLIB, "seed=0,1,2,3", group=True)
    killed = 0
    try:
        end = time.monotonic() + 240
        while process.code is None and time.monotonic() < end:
            if pid := trainer_of(1):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.02)
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.code, err.count("Traceback")) == (3, 0), out + err
    assert "4 jobs: 3 done, 1 failed" in out
    assert "seed=1  (" in next(line for line in out.splitlines() if line.startswith("  failed: "))
    assert killed >= 3


# The folder of a command


def record(number: int, state: str, *words: str) -> JobRecord:
    return JobRecord(number, words, RunOutcome(state, f"runs/{number}", message="why"))


def test_records_come_back_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    records = [record(number, "done", f"seed={number}") for number in (2, 10, 1)]
    with exchange(tmp_path) as shared:
        for one in records:
            shared.put(one)
        (shared.folder / "job-000003.json").write_text("{")
        assert shared.records() == sorted(records, key=lambda one: one.number)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_removed_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), exchange(tmp_path / "new"):
        raise Interrupted(signal.SIGTERM)
    assert not (tmp_path / "new" / ".jobs").exists()


def test_two_commands_have_folders_of_their_own(tmp_path: Path) -> None:
    with exchange(tmp_path) as one:
        assert one.folder.parent == tmp_path / ".jobs"
        assert str(tmp_path) in str(one.folder)
        (tmp_path / ".jobs" / "other").mkdir()
    assert [path.name for path in (tmp_path / ".jobs").iterdir()] == ["other"]


def test_the_words_of_a_summary() -> None:
    records = [record(0, "done"), record(1, "failed"), record(2, "done")]
    assert summary_line(records, 5) == "5 jobs: 2 done, 1 failed, 2 not run"
    assert summary_line(records[:1], 1) == "1 job: 1 done"
    assert summary_line(records, None) == "3 jobs: 2 done, 1 failed"


def test_the_words_that_run_again_what_failed() -> None:
    words, flags = ["--config-dir=mine", "-m", "bits=2,4"], ["--config-dir=mine"]
    one = [record(0, "done", "bits=2"), record(1, "failed", "bits=4")]
    assert retry_words(words, flags, one) == ["--config-dir=mine", "bits=4"]
    assert retry_words(words, flags, [*one, record(2, "diverged", "bits=8")]) == words


@pytest.mark.training
def test_a_sweep_over_a_quantizer_of_the_users_own_folder(train: Train, only_run: OnlyRun, tmp_path: Path) -> None:
    (tmp_path / "conf" / "quantizer").mkdir(parents=True)
    text = "_target_: qexp.quantizers.ste.STE\nname: mine\ndefault_bits: 4\ngrid: minmax\n"
    text += "activation_grid: minmax\nsawb: search\ngranularity: tensor\n"
    (tmp_path / "conf" / "quantizer" / "mine.yaml").write_text(text)
    result = train("-m", f"--config-dir={tmp_path}/conf", "quantizer=mine,ste", "bits=3", "init=scratch")
    assert (result.code, result.err) == (0, "")
    mine, ste = summary(only_run("mine-w3a3")), summary(only_run("ste-w3a3"))
    assert (mine["quantizer"], mine["top1_hard"], mine["test_loss"]) == ("mine", ste["top1_hard"], ste["test_loss"])


def states_in_table(out: str) -> list[str]:
    return [row[-1] for row in rows(out)]


def test_what_jobs_in_other_processes_found_comes_back(
    train: Train, finished: Path, joblib_launcher: tuple[str, ...]
) -> None:
    """The run is done already, so that no process waits for torch; what they print goes past this one."""
    before = files_of(finished)
    result = train("-m", *joblib_launcher, *STE, "seed=0", "tracking.step_interval=1,2")
    assert (result.code, result.err) == (0, "")
    assert states_in_table(result.out) == ["skipped", "skipped"]
    assert "skipped: top-1" not in result.out
    assert files_of(finished) == before


@pytest.mark.slow
def test_jobs_in_other_processes_share_one_float_net(
    train: Train, only_run: OnlyRun, joblib_launcher: tuple[str, ...]
) -> None:
    """Both need it at the same moment: one trains it, the other waits for it."""
    result = train("-m", *joblib_launcher, "quantizer=ste,br", "init=fp")
    assert (result.code, result.err) == (0, "")
    assert states_in_table(result.out) == ["done", "done"]
    pids = {name: json.loads((only_run(name) / "status.json").read_text())["pid"] for name in ("fp", "ste", "br")}
    assert pids["ste"] != pids["br"]
    assert pids["fp"] in (pids["ste"], pids["br"])
    assert os.getpid() not in pids.values()
    for method in ("ste", "br"):
        assert summary(only_run(method))["float_top1"] == summary(only_run("fp"))["top1_hard"]


def test_the_folder_of_a_command_in_another_container_stays(tmp_path: Path) -> None:
    """Its process has no number here; its lock tells that it lives."""
    name = f"20260101-000000-{os.uname().nodename}-{2**30}"
    killed, alive = tmp_path / ".jobs" / name, tmp_path / ".jobs" / name.replace("20260101", "20260102")
    for folder in (killed, alive):
        folder.mkdir(parents=True)
    with holding(alive, wait=False), exchange(tmp_path):
        assert alive.is_dir()
        assert not killed.exists()
