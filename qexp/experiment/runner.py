"""From a configuration to a finished run: claim its directory, find its start, train, and record how it ended."""

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from qexp import runs
from qexp.config.config import Config, float_parent_of
from qexp.config.places import starting_checkpoint
from qexp.config.trust import error_in_own_code, sys_exit
from qexp.config.yaml_files import to_yaml
from qexp.experiment.float_net import FloatNet, known_float_net, of_parent, recorded_float_net
from qexp.experiment.other_data import check_data_as_before
from qexp.experiment.own_code import changed_code
from qexp.utils import atomic
from qexp.utils.errors import Diverged, Interrupted, QexpError
from qexp.utils.printing import mention, say
from qexp.utils.signals import StopRequest
from qexp.utils.text import printable

if TYPE_CHECKING:  # torch takes seconds to import, and a finished run needs none
    from qexp.experiment.build import Parts

EndState = Literal["done", "skipped", "locked", "interrupted", "failed", "diverged"]
FAILED = ("failed", "diverged")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    State: done, skipped (it was done before), locked (another process trains it), interrupted, failed or diverged.
    """

    state: EndState
    path: str
    summary: dict[str, Any] | None = None
    message: str = ""


@dataclass(frozen=True)
class _Way:
    """How runs are carried out: where they show progress, whether with tracebacks, and what asks them to stop."""

    console: Console
    debug: bool
    stop: StopRequest


def run_experiment(
    config: Config,
    console: Console,
    *,
    parts: "Parts | None" = None,
    debug: bool = False,
    stop: StopRequest | None = None,
) -> RunOutcome:
    """Carry out one run, resume it, or find it done; and before it the float net that `init=fp` starts from.

    Args:
        config: of the run.
        console: for progress.
        parts: of the run, where a check has made them; None makes them where they are needed.
        debug: print the traceback of an error.
        stop: asks for an early end; without it, signals do.

    Raises:
        Interrupted: a signal, or `stop`, asked for it; the same command resumes the run.
        QexpError: the run could not even be begun.
    """
    stop, path = stop or StopRequest(), runs.run_directory(config)
    starting_checkpoint(config.init, config.runs_dir)  # it may be gone since the check
    check_data_as_before(config)
    if config.init == "fp":
        check_data_as_before(float_parent_of(config))
    with stop.listening():
        try:
            with runs.claim(path):
                return _run_claimed(path, config, parts, _Way(console, debug, stop))
        except runs.RunLocked as error:
            return RunOutcome("locked", str(path), message=str(error))


def _run_claimed(path: Path, config: Config, parts: "Parts | None", way: _Way) -> RunOutcome:
    before = (runs.read_json(path / "status.json") or {}).get("state")
    summary = runs.read_result(path)
    if summary is None and not config.overwrite and (path / "last.pt").exists() and runs.is_stripped(path):
        try:
            summary = _recovered(path, config, way)
        except Interrupted:
            raise
        except (Exception, SystemExit) as error:
            return _failed(path, error, way.debug)
    if summary and not config.overwrite:
        if before != "done" or not runs.is_stripped(path):
            _finish(path)
        return _skipped(path, config, summary, way.console)
    if summary or (config.overwrite and before in FAILED):
        runs.clear(path)
    try:
        _begin(path, config)
        from qexp.experiment.build import assemble, starting_file  # these two import torch
        from qexp.experiment.train import train

        if config.init == "fp":  # never of a float run: its configuration is normalized
            parent = float_parent_of(config)
            with _claim_or_wait(where := runs.run_directory(parent), way.console):
                outcome = _run_claimed(where, parent, None, way)
            start, float_net = _trained_float_net(config, outcome, way.console)
        else:
            float_net = _net_to_compare_with(config, start := starting_file(config))
        mention(way.console, f"{config.label}  seed {config.seed}  -> {path}")
        atomic.remove(path / "error.txt")
        parts = parts or assemble(config)
        summary = train(path, config, parts, start=start, float_net=float_net, console=way.console, stop=way.stop)
        runs.write_status(path, "done")
        way.stop.check()  # a signal may have come after the last step
    except (KeyboardInterrupt, Interrupted) as error:
        if runs.read_result(path) is None:
            _try_status(path, "interrupted", str(error) or "stopped by a second SIGINT")
        raise
    except (Exception, SystemExit) as error:  # of own code: it shall end neither a sweep nor a run as if all was well
        return _failed(path, error, way.debug)
    return RunOutcome("done", str(path), summary)


def _begin(path: Path, config: Config) -> None:
    """Say that a run is running, and what it is: its float net may train for long before it, or diverge."""
    runs.write_status(path, "running")
    if not (path / "config.yaml").exists():
        atomic.write(path / "config.yaml", to_yaml(config.tree).encode())


def _recovered(path: Path, config: Config, way: _Way) -> dict[str, Any] | None:
    """Return the summary of a run that was finished and has lost it, and write it; None where it was not finished."""
    from qexp.experiment.build import assemble  # these import torch
    from qexp.experiment.recover import recovered_summary, was_finished

    if not was_finished(path, config):
        return None
    summary = recovered_summary(path, config, assemble(config), recorded_float_net(path) or known_float_net(config))
    runs.write_json(path / "summary.json", summary)
    say(way.console, f"{path}: its summary.json was lost; it is made again from last.pt and metrics.jsonl")
    return summary


def _skipped(path: Path, config: Config, summary: dict[str, Any], console: Console) -> RunOutcome:
    """Return the outcome of a run that was done before, and say where its own code is not what it was."""
    if changed := changed_code(path, config):
        say(console, f"warning: {path}: {changed}; overwrite=true trains it again")
    if config.firmness and not config.is_float and summary.get("firmness") is None:
        say(
            console,
            f"firmness=true measures at the end of a training; of a finished run: qexp eval {config.key} --firmness",
        )
    return RunOutcome("skipped", str(path), summary)


@contextmanager
def _claim_or_wait(path: Path, console: Console) -> Iterator[None]:
    """Hold the lock of a run inside the block, waiting for a process that trains it."""
    with ExitStack() as held:
        try:
            held.enter_context(runs.claim(path))
        except runs.RunLocked as error:
            say(console, f"waiting: {error}")
            held.enter_context(runs.claim(path, wait=True))
        yield


def _net_to_compare_with(config: Config, start: Path | None) -> FloatNet | None:
    """Return the float net of a run that trains none before it; None for that of its file, which `train` looks at."""
    return known_float_net(config) if start is None or config.is_float else None


def _trained_float_net(config: Config, outcome: RunOutcome, console: Console) -> tuple[Path | None, FloatNet | None]:
    """Return the checkpoint of the float net and what is known of it; raise QexpError if its training failed."""
    if outcome.summary is None:
        kind = Diverged if outcome.state == "diverged" else QexpError
        raise kind(f"the float baseline {outcome.state}: {outcome.message} ({outcome.path})")
    found = "found" if outcome.state == "skipped" else "trained"
    mention(console, f"float baseline {found}: top-1 {outcome.summary['top1_hard']:.2f} %  {outcome.path}")
    return Path(outcome.path) / "last.pt", of_parent(config, outcome.summary)


def _failed(path: Path, error: Exception | SystemExit, debug: bool) -> RunOutcome:
    """Record why a run failed, and return that."""
    if debug:
        traceback.print_exception(error)
    state: Literal["failed", "diverged"] = "diverged" if isinstance(error, Diverged) else "failed"
    message = printable(str(error) if isinstance(error, QexpError) else _first_line(error))
    _try_status(path, state, message)
    with suppress(QexpError):
        atomic.write(path / "error.txt", "".join(traceback.format_exception(error)).encode(errors="replace"))
    return RunOutcome(state, str(path), message=message)


def _finish(path: Path) -> None:
    """Bring a run to its end that was killed after its summary was written."""
    from qexp.engine.checkpointer import strip_training_state  # imports torch

    with suppress(QexpError):  # the result is whole without it
        strip_training_state(path)
        runs.write_status(path, "done")


def _try_status(path: Path, state: runs.State, message: str) -> None:
    """Record a state where the disk allows it; without it the run counts as interrupted."""
    with suppress(QexpError):
        runs.write_status(path, state, message)


def _first_line(error: Exception | SystemExit) -> str:
    """Return an unexpected error in one line, with its place where it is one of own code; error.txt has all of it."""
    if (found := error_in_own_code(error)) is not None:
        return found
    if isinstance(error, SystemExit):
        return sys_exit(error)
    return next(iter(f"{type(error).__name__}: {error}".splitlines())).rstrip(": ")
