"""Jobs that a launcher of Hydra's runs in other processes: what they leave for their command, what it tells them."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from qexp import runs
from qexp.cli.closing import say_how_it_ended
from qexp.cli.exchange import Exchange, exchange, in_progress
from qexp.cli.jobs import JobEnd, JobRecord, run_to_its_end
from qexp.cli.launch import hydra_main
from qexp.cli.launched import console_of_job, showing_launched
from qexp.cli.progress import Plan, read_plan
from qexp.config.config import Config, parse_config
from qexp.experiment.runner import FAILED, RunOutcome
from qexp.utils import signals
from qexp.utils.errors import Interrupted, QexpError, UsageError
from qexp.utils.signals import StopRequest

# What jobs in other processes are told besides their folder: whether to show tracebacks, the command's own process.
DEBUG, MAIN = "QEXP_DEBUG", "QEXP_MAIN"


def run_elsewhere(
    words: Sequence[str], store: Path, plan: Plan | None, configs: Sequence[Config], *, debug: bool
) -> tuple[list[JobRecord], int, BaseException | None]:
    """Let a launcher of Hydra's run the jobs of a command.

    Args:
        words: of the command, Hydra's flags first.
        store: the run store.
        plan: of the sweep, None where its jobs are not known before it runs.
        configs: of the jobs of the plan.
        debug: show tracebacks.

    Returns:
        What the jobs left, Hydra's exit code, and what stopped them.
    """
    os.environ[DEBUG], os.environ[MAIN] = "1" if debug else "", str(os.getpid())
    with exchange(store) as shared, signals.handling(partial(_on_signal, shared)):
        stopped: BaseException | None = None
        code = 0
        if plan is not None:
            plan.leave(shared.folder)
        try:
            with showing_launched(shared, plan, configs):
                code = launch_until_all_ended(shared, words)
        except (Interrupted, KeyboardInterrupt) as error:
            stopped = error
        number = signals.stop_number(shared.stop_file)
        if stopped is None and number is not None:
            stopped = Interrupted(number)
        return shared.records(), code, stopped


def launch_until_all_ended(shared: Exchange, words: Sequence[str]) -> int:
    """Let Hydra launch the jobs, and again where a process of its launcher died; return Hydra's exit code.

    A launcher that loses one of its processes kills the others. The jobs that had begun go on from their last states,
    all together; those that are lost a second time alone, one after another, so that the one which dies is known.
    """
    code, is_broken = _launch(words)
    in_vain = 0
    while is_broken and not shared.is_halted:
        lost = shared.unfinished()
        signals.say_on_stderr(f"qexp train: a process of the launcher died; its jobs go on: {len(lost)}\n")
        in_vain = 0 if lost else in_vain + 1  # it died before it began a job
        if in_vain > 2:
            return code
        for record in lost:
            if len(shared.attempts(record.number)) > 1 and not shared.is_halted:
                _launch_alone(shared, record, words)
        code, is_broken = _launch(words)
    return code


def _launch_alone(shared: Exchange, record: JobRecord, words: Sequence[str]) -> None:
    shared.choose(record.number)
    _, died = _launch(words)
    if died:
        shared.put(record)
        with suppress(QexpError):
            runs.write_status(Path(record.outcome.path), "failed", record.outcome.message)
        say_how_it_ended(record.outcome, Console())
        if record.stops_others:
            shared.halt()
    shared.choose(None)


def _launch(words: Sequence[str]) -> tuple[int, bool]:
    """Return Hydra's exit code, and whether a process of its launcher died; raise UsageError where Hydra gives up."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a traceback, and nobody can tell why
    try:
        return hydra_main(words, job_elsewhere), False
    except BrokenProcessPool:
        return 1, True
    except (Interrupted, QexpError):
        raise
    except Exception as error:
        raise UsageError(f"hydra: {type(error).__name__} of its launcher or sweeper: {error}") from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _on_signal(shared: Exchange, number: int, frame: FrameType | None) -> None:
    """Pass a signal on to jobs in other processes."""
    if signals.stop_number(shared.stop_file) is not None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        return
    try:
        signals.ask_to_stop(shared.stop_file, number)
    except OSError:  # a full disk: the jobs cannot be asked
        raise Interrupted(number) from None
    name = signal.Signals(number).name
    signals.say_on_stderr(f"\n{name}: the running jobs save their state and stop; Ctrl-C again does not wait\n")


def _head(shared: Exchange, number: int) -> str:
    """Return the line above a job: where the sweep is, and about how long the rest takes at its pace so far."""
    plan, records = read_plan(shared.folder), shared.records()
    if plan is None or number >= len(plan.names):
        return f"job {number + 1}"
    trained = sum(record.outcome.state == "done" for record in records)
    ended = [record.number for record in records]
    return plan.head(number, seconds=plan.seconds_left_together(trained, ended, time.time()))


def job_elsewhere(tree: DictConfig) -> float:
    """Carry out one job inside Hydra, in whatever process its launcher chose; return hard top-1 for sweepers."""
    plain: Any = OmegaConf.to_container(tree, resolve=True)
    config, settings, shared = parse_config(plain), HydraConfig.get(), in_progress()
    number, overrides = settings.job.num, tuple(settings.overrides.task)
    if not shared.may_begin(number):
        return float("nan")
    begun = RunOutcome("failed", str(runs.run_directory(config)), message="its process died: killed, or out of memory")
    is_alone, debug = os.getpid() == int(os.environ[MAIN]), bool(os.environ.get(DEBUG))
    ends: list[JobEnd] = []
    with suppress(QexpError):  # a full disk: the end of the job says it
        shared.begin(JobRecord(number, overrides, begun, stops_others=config.on_error == "stop"))
    with console_of_job(shared, number, _head(shared, number), is_alone=is_alone) as console:
        found = run_to_its_end(ends, config, console, debug=debug, stop=StopRequest(shared.stop_file))
        end = ends[0]
        try:
            shared.put(JobRecord(number, overrides, end.outcome, end.code))
            say_how_it_ended(end.outcome, console)
        except QexpError as error:  # a full disk: this line and the exit code are all that can be left
            message = f"{end.outcome.message or error}  ({end.outcome.path})"
            print(f"qexp train: error: {message}", file=sys.stderr, flush=True)
    if end.outcome.state in FAILED and config.on_error == "stop":
        shared.halt()
    if end.stopped is not None and is_alone:
        raise end.stopped
    if not is_alone:
        # A process that waits for its next job shall not die of a Ctrl-C that the running ones have to heed.
        signal.signal(signal.SIGINT, lambda *_: None)
    return found
