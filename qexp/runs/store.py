"""The run store: where a run lives, who may write there, and what state it is in.

<store>/<dataset>/<model>/<quantizer>-w2a2/s0-<hash8>/
    config.yaml  env.json  status.json  metrics.jsonl  events...  last.pt  best.pt  summary.json  lock

A run is done when it has its summary.json, which is written after everything that it tells of.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from qexp.config.config import Config
from qexp.utils import atomic
from qexp.utils.errors import QexpError, UsageError, cannot_write

State = Literal["running", "interrupted", "done", "failed", "diverged"]


class RunningElsewhere(QexpError):
    """Another process holds the run's lock."""


def store_root(runs_dir: str | None) -> Path:
    """Return the store: `runs_dir`, else $QEXP_RUNS, else ./runs."""
    return Path(runs_dir or os.environ.get("QEXP_RUNS") or "runs").expanduser()


def data_root(data_dir: str | None) -> Path:
    """Return the folder of datasets: `data_dir`, else $QEXP_DATA, else ./data."""
    return Path(data_dir or os.environ.get("QEXP_DATA") or "data").expanduser()


def run_directory(config: Config) -> Path:
    """Return the directory that belongs to what `config` computes."""
    label = f"{config.quantizer.name}-w{config.weight_bits}a{config.activation_bits}"
    parts = (config.dataset.name, config.model.name, label, f"s{config.seed}-{config.key}")
    return store_root(config.runs_dir).joinpath(*parts)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; raises QexpError."""
    atomic.write(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return the summary of the run in `path`, None where it has none that can be read."""
    summary = read_json(path / "summary.json")
    if summary and "images_per_second" in summary:  # its name before all that two equal runs differ in was time_*
        summary["time_images_per_second"] = summary.pop("images_per_second")
    return summary


def write_status(path: Path, state: State, message: str = "") -> None:
    """Record the state of the run in `path`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname()}
    write_json(path / "status.json", {"state": state, "message": message, "time": now, **who})


def state_of(path: Path) -> State | None:
    """Return the state of the run in `path`, None where there is none.

    A run that says `running` but whose lock nobody holds was interrupted; one that has its summary nevertheless could
    only not say any more that it was done.
    """
    status = read_json(path / "status.json")
    state = status.get("state") if status else None
    if state == "interrupted" or (state == "running" and not _is_locked(path)):
        return "done" if read_summary(path) else "interrupted"
    return state


def _is_locked(path: Path) -> bool:
    try:
        with (path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Create the run directory and hold its lock; the lock dies with the process.

    Args:
        path: the run directory.
        wait: whether to wait for another holder.

    Raises:
        RunningElsewhere: somebody else holds it and `wait` is false.
        QexpError: the directory cannot be made.
    """
    lock = _open_lock(path)
    while True:
        with lock:
            if not _lock(lock, wait=wait):
                lock.seek(0)
                raise RunningElsewhere(f"running elsewhere ({lock.read().strip() or 'unknown process'}): {path}")
            if _is_file(lock, path / "lock"):
                with suppress(OSError):  # a full disk: it is held all the same
                    os.ftruncate(lock.fileno(), 0)
                    os.write(lock.fileno(), f"pid {os.getpid()} on {socket.gethostname()}".encode())
                yield
                return
        lock = _open_lock(path)  # the run was removed meanwhile, and its lock with it


def _open_lock(path: Path) -> TextIO:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return (path / "lock").open("a+")
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_file(file: TextIO, path: Path) -> bool:
    """Whether an open file is what `path` names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: TextIO, *, wait: bool) -> bool:
    """Take the lock; without `wait` try for half a second, because a look at a run's state holds it for a moment."""
    for attempt in range(6):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        except BlockingIOError:
            time.sleep(0.1 if attempt < 5 else 0)
    return False


def is_tidy(path: Path) -> bool:
    """Whether a finished run has given up what it would have resumed from (engine/checkpointer.py imports torch)."""
    return not any((path / name).exists() for name in ("previous.pt", "best-previous.pt"))


def clear(path: Path, keep: Collection[str] = ()) -> None:
    """Remove everything in a run directory but its lock and `keep`: first what makes a run done, or lets it go on."""

    def order(entry: Path) -> tuple[bool, bool, str]:
        return entry.name != "summary.json", entry.suffix != ".pt", entry.name

    for entry in sorted(path.iterdir(), key=order):
        if entry.name not in ("lock", *keep):
            with atomic.writing(entry):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def list_runs(root: Path) -> list[Path]:
    """Return the directories of all runs in the store, in order of their names."""
    return sorted(status.parent for status in root.glob("*/*/*/*/status.json"))


def find_run(root: Path, text: str) -> Path:
    """Return the run that `text` names: its directory, or the beginning of its hash.

    Raises:
        UsageError: no run, or several.
    """
    if text and (Path(text) / "config.yaml").is_file():
        return Path(text)
    found = [path for path in list_runs(root) if path.name.partition("-")[2].startswith(text)] if text else []
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found[:4]))
        raise UsageError(f"'{text}' names {len(found)} runs: {listed}; give more letters, or the directory")
    raise UsageError(f"no run '{text}': it is neither a run directory nor the hash of a run in {root} (see qexp runs)")


def initial_checkpoint(config: Config) -> Path | None:
    """Return the file that `init=PATH or RUN` names; None for `fp`, `scratch` and `torchvision`.

    Raises:
        UsageError: it names nothing.
    """
    if config.init in ("fp", "scratch", "torchvision"):
        return None
    if Path(config.init).is_file():
        return Path(config.init)
    try:
        path = find_run(store_root(config.runs_dir), config.init) / "last.pt"
    except UsageError as error:
        raise UsageError(
            f"init={config.init}: must be fp, scratch, torchvision, a checkpoint file or a run; {error}"
        ) from None
    if not path.is_file():
        raise UsageError(f"init={config.init}: that run has no last.pt yet")
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
