"""From a configuration to a finished run: claim its directory, find its start, train, and record how it ended."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from qexp import config as configuration
from qexp import runs
from qexp.config import Config
from qexp.errors import Diverged, QexpError


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `done`, `skipped` (it was done before), `elsewhere`, `failed` or `diverged`."""

    state: str
    path: str
    summary: dict[str, Any] | None = None
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def identified(config: Config) -> Config:
    """Return `config` with the digest of the checkpoint that `init` names, which makes its key depend on the content.

    `init=torchvision` needs none: the word stands for one file per model, whose hash is checked before it is used. So
    the key is the same before the download and on every machine.

    Raises:
        UsageError: `init` names nothing.
    """
    start = runs.initial_checkpoint(config)
    return config if start is None else replace(config, init_digest=runs.file_digest(start))


def perform(config: Config, console: Console, *, debug: bool = False, wait: bool = False) -> Outcome:
    """Carry out one run, or find it done.

    Args:
        config: of the run.
        console: for progress.
        debug: let exceptions through.
        wait: wait for a run that another process is training, instead of skipping it.
    """
    config = identified(config)
    path = runs.run_directory(config)
    try:
        with runs.claim(path):
            return _perform_claimed(path, config, console, debug)
    except runs.RunningElsewhere as error:
        if not wait:
            return Outcome("elsewhere", str(path), message=str(error))
        console.print(f"waiting: {error}", highlight=False, soft_wrap=True)
    with runs.claim(path, wait=True):
        return _perform_claimed(path, config, console, debug)


def _perform_claimed(path: Path, config: Config, console: Console, debug: bool) -> Outcome:
    before = (runs.read_json(path / "status.json") or {}).get("state")
    summary = runs.read_json(path / "summary.json")
    if before == "done" and summary and not config.overwrite:
        return Outcome("skipped", str(path), summary)
    if before in ("running", "interrupted"):  # we hold the lock: nobody is running it
        console.print(f"{path} was interrupted; it starts over", highlight=False, soft_wrap=True)
    runs.clear(path)
    runs.write_status(path, "running")
    try:
        with _sigterm_as_exit():
            start, baseline = _starting_point(config, console, debug)
            from qexp.experiment import train_in  # imports torch's parts only when something trains

            console.print(banner(config, path), highlight=False, soft_wrap=True)
            summary = train_in(path, config, start, baseline, console)
    except (KeyboardInterrupt, SystemExit):
        runs.write_status(path, "interrupted", "stopped by a signal")
        raise
    except Exception as error:
        state = "diverged" if isinstance(error, Diverged) else "failed"
        message = str(error) if isinstance(error, QexpError) else _first_line(error)
        with suppress(OSError):  # a full disk may be what ended the run
            runs.write_status(path, state, message)  # type: ignore[arg-type]
            path.joinpath("error.txt").write_text(traceback.format_exc())
        if debug:
            raise
        return Outcome(state, str(path), message=message)
    runs.write_status(path, "done")
    return Outcome("done", str(path), summary)


def _first_line(error: Exception) -> str:
    """Return an unexpected error in one line; error.txt has all of it."""
    return next(iter(f"{type(error).__name__}: {error}".splitlines())).rstrip(": ")


def banner(config: Config, path: Path) -> str:
    """Return the line that opens a run."""
    what = f"{config.quantizer.name} W{config.weight_bits}A{config.activation_bits}"
    return f"{what}  {config.model.name} on {config.dataset.name}  seed {config.seed}  -> {path}"


def _starting_point(config: Config, console: Console, debug: bool) -> tuple[Path | None, float | None]:
    """Return (checkpoint to begin with, float top-1 where known), training the float net for `init=fp` if need be."""
    from qexp.assemble import starting_file  # imports torch, see above

    if configuration.is_float(config.raw):
        return starting_file(config), None
    parent = float_config(config)
    where = runs.run_directory(parent)
    if config.init != "fp":
        known = runs.read_json(where / "summary.json") if runs.state_of(where) == "done" else None
        return starting_file(config), known["top1_hard"] if known else None
    outcome = perform(parent, console, debug=debug, wait=True)
    if outcome.summary is None:
        kind = Diverged if outcome.state == "diverged" else QexpError
        raise kind(f"the float baseline {outcome.state}: {outcome.message} ({outcome.path})")
    found = "found" if outcome.state == "skipped" else "trained"
    top1 = outcome.summary["top1_hard"]
    console.print(f"float baseline {found}: top-1 {top1:.2f} %  {outcome.path}", highlight=False, soft_wrap=True)
    return Path(outcome.path) / "last.pt", top1


def float_config(config: Config) -> Config:
    """Return the configuration of the float run with the same data, model, recipe and seed."""
    raw = configuration.float_parent(config.raw)
    return configuration.parse_config(raw)


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that the run is marked as interrupted."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
