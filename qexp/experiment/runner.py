"""From a configuration to a finished run: claim its directory, find its start, train, and record how it ended."""

import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from qexp import runs
from qexp.config import config as configuration
from qexp.config.config import Config
from qexp.utils import atomic
from qexp.utils.errors import Diverged, Interrupted, QexpError
from qexp.utils.signals import StopRequest


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    State: done, skipped (it was done before), elsewhere (another process trains it), interrupted, failed or diverged.
    """

    state: str
    path: str
    summary: dict[str, Any] | None = None
    message: str = ""


def identified(config: Config) -> Config:
    """Return `config` with the digest of the checkpoint that `init` names, which makes its key depend on the content.

    `init=torchvision` needs none: the word stands for one file per model, whose hash is checked before it is used. So
    the key is the same before the download and on every machine.

    Raises:
        UsageError: `init` names nothing.
    """
    start = runs.initial_checkpoint(config)
    return config if start is None else replace(config, init_digest=runs.file_digest(start))


def perform(
    config: Config, console: Console, *, debug: bool = False, wait: bool = False, stop: StopRequest | None = None
) -> Outcome:
    """Carry out one run, go on with it, or find it done.

    Args:
        config: of the run.
        console: for progress.
        debug: print the traceback of an error.
        wait: wait for a run that another process is training, instead of skipping it.
        stop: asks for an early end; without it, signals do.

    Raises:
        Interrupted: a signal, or `stop`, asked for it; the run goes on with the same command.
        QexpError: the run could not even be begun.
    """
    stop = stop or StopRequest()
    with stop.listening():
        config = identified(config)
        path = runs.run_directory(config)
        try:
            with runs.claim(path):
                return _perform_claimed(path, config, console, debug, stop)
        except runs.RunningElsewhere as error:
            if not wait:
                return Outcome("elsewhere", str(path), message=str(error))
            _say(console, f"waiting: {error}")
        with runs.claim(path, wait=True):
            return _perform_claimed(path, config, console, debug, stop)


def _perform_claimed(path: Path, config: Config, console: Console, debug: bool, stop: StopRequest) -> Outcome:
    before = (runs.read_json(path / "status.json") or {}).get("state")
    summary = runs.read_summary(path)
    if summary and not config.overwrite:
        if before != "done" or not runs.is_tidy(path):
            _tidy(path)
        return Outcome("skipped", str(path), summary)
    if summary or (config.overwrite and before in ("failed", "diverged")):
        runs.clear(path)
    try:
        runs.write_status(path, "running")
        summary = _train(path, config, console, debug, stop)
        runs.write_status(path, "done")
        stop.check()  # a signal may have come after the last step
    except (KeyboardInterrupt, Interrupted) as error:
        if runs.read_summary(path) is None:
            _try_status(path, "interrupted", str(error) or "stopped by a second SIGINT")
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        state: runs.State = "diverged" if isinstance(error, Diverged) else "failed"
        message = str(error) if isinstance(error, QexpError) else _first_line(error)
        _try_status(path, state, message)
        with suppress(OSError):
            path.joinpath("error.txt").write_text(traceback.format_exc())
        return Outcome(state, str(path), message=message)
    return Outcome("done", str(path), summary)


def _train(path: Path, config: Config, console: Console, debug: bool, stop: StopRequest) -> dict[str, Any]:
    from qexp.experiment.train import train_in  # imports torch's parts only when something trains

    start, baseline = _starting_point(config, console, debug, stop)
    _say(console, banner(config, path))
    atomic.remove(path / "error.txt")
    return train_in(path, config, start, baseline, console, stop)


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)  # paths may hold what rich takes for markup


def _tidy(path: Path) -> None:
    """Bring a run to its end that could not get there after its summary was written."""
    from qexp.engine.checkpointer import keep_network  # imports torch

    with suppress(QexpError):  # the result is whole without it
        keep_network(path)
        runs.write_status(path, "done")


def _try_status(path: Path, state: runs.State, message: str) -> None:
    """Record a state where the disk allows it; without it the run counts as interrupted."""
    with suppress(QexpError):
        runs.write_status(path, state, message)


def _first_line(error: Exception) -> str:
    """Return an unexpected error in one line; error.txt has all of it."""
    return next(iter(f"{type(error).__name__}: {error}".splitlines())).rstrip(": ")


def banner(config: Config, path: Path) -> str:
    """Return the line that opens a run."""
    what = f"{config.quantizer.name} W{config.weight_bits}A{config.activation_bits}"
    return f"{what}  {config.model.name} on {config.dataset.name}  seed {config.seed}  -> {path}"


def _starting_point(
    config: Config, console: Console, debug: bool, stop: StopRequest
) -> tuple[Path | None, float | None]:
    """Return (checkpoint to begin with, float top-1 where known), training the float net for `init=fp` if need be."""
    from qexp.experiment.build import starting_file  # imports torch, see above

    if configuration.is_float(config.raw):
        return starting_file(config), None
    parent = float_config(config)
    where = runs.run_directory(parent)
    if config.init != "fp":
        known = runs.read_summary(where) if runs.state_of(where) == "done" else None
        return starting_file(config), known["top1_hard"] if known else None
    outcome = perform(parent, console, debug=debug, wait=True, stop=stop)
    if outcome.summary is None:
        kind = Diverged if outcome.state == "diverged" else QexpError
        raise kind(f"the float baseline {outcome.state}: {outcome.message} ({outcome.path})")
    found = "found" if outcome.state == "skipped" else "trained"
    top1 = outcome.summary["top1_hard"]
    _say(console, f"float baseline {found}: top-1 {top1:.2f} %  {outcome.path}")
    return Path(outcome.path) / "last.pt", top1


def float_config(config: Config) -> Config:
    """Return the configuration of the float run with the same data, model, recipe and seed."""
    raw = configuration.float_parent(config.raw)
    return configuration.parse_config(raw)
