"""From a configuration to a finished run: claim its directory, find its start, train, and record how it ended."""

import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from qexp import runs
from qexp.config.config import Config, float_parent_of
from qexp.config.places import starting_checkpoint
from qexp.utils import atomic
from qexp.utils.errors import Diverged, Interrupted, QexpError
from qexp.utils.signals import StopRequest

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


def run_experiment(
    config: Config,
    console: Console,
    *,
    parts: "Parts | None" = None,
    debug: bool = False,
    wait: bool = False,
    stop: StopRequest | None = None,
) -> RunOutcome:
    """Carry out one run, resume it, or find it done.

    Args:
        config: of the run.
        console: for progress.
        parts: of the run, where a check has made them; None makes them where they are needed.
        debug: print the traceback of an error.
        wait: wait for a run that another process is training, instead of skipping it.
        stop: asks for an early end; without it, signals do.

    Raises:
        Interrupted: a signal, or `stop`, asked for it; the same command resumes the run.
        QexpError: the run could not even be begun.
    """
    stop, path = stop or StopRequest(), runs.run_directory(config)
    starting_checkpoint(config.init, config.runs_dir)  # it may be gone since the check
    with stop.listening():
        try:
            with runs.claim(path):
                return _run_claimed(path, config, parts, console, debug, stop)
        except runs.RunLocked as error:
            if not wait:
                return RunOutcome("locked", str(path), message=str(error))
            say(console, f"waiting: {error}")
        with runs.claim(path, wait=True):
            return _run_claimed(path, config, parts, console, debug, stop)


def _run_claimed(
    path: Path, config: Config, parts: "Parts | None", console: Console, debug: bool, stop: StopRequest
) -> RunOutcome:
    before = (runs.read_json(path / "status.json") or {}).get("state")
    summary = runs.read_summary(path)
    if summary and not config.overwrite:
        if before != "done" or not runs.is_stripped(path):
            _finish(path)
        return RunOutcome("skipped", str(path), summary)
    if summary or (config.overwrite and before in FAILED):
        runs.clear(path)
    try:
        runs.write_status(path, "running")
        start, baseline = _starting_point(config, console, debug, stop)
        say(console, f"{config.label}  seed {config.seed}  -> {path}")
        atomic.remove(path / "error.txt")
        from qexp.experiment.build import assemble  # these two import torch
        from qexp.experiment.train import train

        parts = parts or assemble(config)
        summary = train(path, config, parts, start=start, baseline=baseline, console=console, stop=stop)
        runs.write_status(path, "done")
        stop.check()  # a signal may have come after the last step
    except (KeyboardInterrupt, Interrupted) as error:
        if runs.read_summary(path) is None:
            _try_status(path, "interrupted", str(error) or "stopped by a second SIGINT")
        raise
    except Exception as error:
        return _failed(path, error, debug)
    return RunOutcome("done", str(path), summary)


def _failed(path: Path, error: Exception, debug: bool) -> RunOutcome:
    """Record why a run failed, and return that."""
    if debug:
        traceback.print_exception(error)
    state: Literal["failed", "diverged"] = "diverged" if isinstance(error, Diverged) else "failed"
    message = str(error) if isinstance(error, QexpError) else _first_line(error)
    _try_status(path, state, message)
    with suppress(OSError):
        path.joinpath("error.txt").write_text("".join(traceback.format_exception(error)))
    return RunOutcome(state, str(path), message=message)


def say(console: Console, line: str) -> None:
    """Print one line as it stands: paths may hold what rich takes for markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


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


def _first_line(error: Exception) -> str:
    """Return an unexpected error in one line; error.txt has all of it."""
    return next(iter(f"{type(error).__name__}: {error}".splitlines())).rstrip(": ")


def _starting_point(
    config: Config, console: Console, debug: bool, stop: StopRequest
) -> tuple[Path | None, float | None]:
    """Return (checkpoint to begin with, float top-1 where known), training the float net for `init=fp` if need be."""
    from qexp.experiment.build import starting_file  # imports torch

    if config.is_float:
        return starting_file(config), None
    parent = float_parent_of(config)
    where = runs.run_directory(parent)
    if config.init != "fp":
        known = runs.read_summary(where) if runs.state_of(where) == "done" else None
        return starting_file(config), known["top1_hard"] if known else None
    outcome = run_experiment(parent, console, debug=debug, wait=True, stop=stop)
    if outcome.summary is None:
        kind = Diverged if outcome.state == "diverged" else QexpError
        raise kind(f"the float baseline {outcome.state}: {outcome.message} ({outcome.path})")
    found = "found" if outcome.state == "skipped" else "trained"
    top1 = outcome.summary["top1_hard"]
    say(console, f"float baseline {found}: top-1 {top1:.2f} %  {outcome.path}")
    return Path(outcome.path) / "last.pt", top1
