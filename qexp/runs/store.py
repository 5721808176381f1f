"""The run store: where a run lives, who may write there, and what state it is in.

<store>/<dataset>/<model>/<quantizer>-w2a2/s0-<hash8>/
    config.yaml  env.json  status.json  metrics.jsonl  layers.jsonl  events...  last.pt  best.pt  summary.json  lock

A run is done when it has its summary.json, which is written after everything that it tells of.
"""

import errno
import json
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from qexp.config.config import Config
from qexp.config.places import store_root
from qexp.runs import locks
from qexp.utils import atomic
from qexp.utils.errors import UsageError, cannot_write
from qexp.utils.files import read_json, read_regular
from qexp.utils.text import is_number

_WIDTH = re.compile(r"^model:\n(?: .*\n)*?  width: ([0-9.e+-]+)$", re.MULTILINE)

# What the report of a run takes from its summary.
_NUMBERS = (
    *("top1_hard", "top1_soft", "quantizer_gap", "test_images", "best_top1_hard", "best_epoch", "epochs", "seed"),
    *("weight_bits", "activation_bits", "weight_kilobytes", "float_weight_kilobytes", "time_seconds"),
    "time_images_per_second",
)
_TEXTS = ("dataset", "model", "quantizer", "protocol")

DEPTH = 4  # folders from the store to a run, its own included
# What a run directory holds; under `.tmp` while it is written.
OWN = re.compile(
    r"(config\.yaml|(env|status|start|summary)\.json|(metrics|layers)\.jsonl|error\.txt|lock(\.held(\.\d+)?)?"
    r"|(last|previous|best|best-previous)\.pt|events\.out\.tfevents\..+)(\.tmp)?"
)

State = Literal["running", "interrupted", "done", "failed", "diverged"]


def run_directory(config: Config) -> Path:
    """Return the directory that belongs to what `config` computes."""
    label = f"{config.quantizer.name}-w{config.weight_bits}a{config.activation_bits}"
    parts = (config.dataset.name, config.model.name, label, f"s{config.seed}-{config.key}")
    return store_root(config.runs_dir).joinpath(*parts)


def folder_names(tree: Mapping[str, Any]) -> list[str | None]:
    """Return the names of a run's folders, its key left out, as far as a damaged configuration tells them."""

    def name(section: str) -> str | None:
        value = tree.get(section)
        return str(value["name"]) if isinstance(value, Mapping) and "name" in value else None

    method, bits = name("quantizer"), [tree.get(f"{side}_bits") for side in ("weight", "activation")]
    label = None if method is None or None in bits else f"{method}-w{bits[0]}a{bits[1]}"
    return [name("dataset"), name("model"), label, f"s{tree['seed']}" if "seed" in tree else None]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; raises QexpError."""
    atomic.write(path, (json.dumps(content, indent=2) + "\n").encode())


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return the summary of the run in `path`, None where it has none that can be read."""
    summary = read_json(path / "summary.json")
    if summary and "images_per_second" in summary:  # its name in the first runs
        summary["time_images_per_second"] = summary.pop("images_per_second")
    if summary and "width" not in summary and (width := model_width(path)) is not None:  # older ones lack it
        summary["width"] = width
    return summary


def read_result(path: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, None where it has none, or one that lacks something that was measured."""
    summary = read_summary(path) or {}
    unsettled, compared = summary.get("unsettled"), [summary.get(key, "") for key in ("float_top1", "difference")]
    is_whole = (
        all(is_number(summary.get(key)) for key in _NUMBERS)
        and all(isinstance(summary.get(key), str) for key in _TEXTS)
        and all(value is None or is_number(value) for value in compared)
        and path.name.endswith(str(summary.get("key", "")))
        and isinstance(unsettled, list)
        and all(isinstance(name, str) for name in unsettled)
    )
    return summary if is_whole else None


def model_width(path: Path) -> float | None:
    """Return the width of the model of the run in `path`, None where its config.yaml tells none.

    Looked for in the text as qexp writes it: a list of runs asks for each, and YAML takes 20 times as long.
    """
    try:
        found = _WIDTH.search(read_regular(path / "config.yaml").decode())
        return float(found[1]) if found else None
    except (OSError, ValueError):
        return None


def write_status(path: Path, state: State, message: str = "") -> None:
    """Record the state of the run in `path`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname()}
    write_json(path / "status.json", {"state": state, "message": message, "time": now, **who})


def state_of(path: Path) -> State | None:
    """Return the state of the run in `path`, None where there is none.

    A run that says `running` but whose lock nobody holds was interrupted; with a summary it is done all the same, and
    was only killed before it could say so.
    """
    status = read_json(path / "status.json")
    state = status.get("state") if status else None
    if state == "interrupted" or (state == "running" and not locks.is_locked(path)):
        return "done" if read_summary(path) else "interrupted"
    return state if state in get_args(State) else None  # else somebody else wrote it


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Create the run directory and hold its lock; the lock dies with the process.

    Args:
        path: the run directory.
        wait: whether to wait for another holder.

    Raises:
        RunLocked: somebody else holds it and `wait` is false.
        QexpError: the directory cannot be made, or is behind a link.
    """
    _check_folders(path)
    with ExitStack() as held:
        while True:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # in /proc, say, where nobody can make a folder
                reason = f"cannot write {path}: {os.strerror(errno.ENOENT)}"
                raise UsageError(f"{reason}; runs_dir=DIR names another store") from error
            except OSError as error:
                raise cannot_write(path, error) from error
            try:
                held.enter_context(locks.holding(path, wait=wait))
                break
            except OSError as error:
                if path.is_dir():
                    raise cannot_write(path, error) from error
                # The run was removed, and its directory with it, before the lock could be taken.
        yield


def _check_folders(path: Path) -> None:
    """Raise UsageError where a link in the store would lead to somebody else's folder."""
    for folder in (path, *path.parents[: DEPTH - 1]):
        if folder.is_symlink():
            raise UsageError(f"{folder} is a link; qexp writes and removes in folders of the store itself")


def is_stripped(path: Path) -> bool:
    """Whether a finished run holds no more states to resume from (engine/checkpointer.py imports torch)."""
    return not any((path / name).exists() for name in ("previous.pt", "best-previous.pt"))


def clear(path: Path, keep: Collection[str] = ()) -> None:
    """Remove qexp's files in a run directory but its lock and `keep`: first what makes it done, or lets it resume."""

    def order(entry: Path) -> tuple[bool, bool, str]:
        return entry.name != "summary.json", entry.suffix != ".pt", entry.name

    for entry in sorted(path.iterdir(), key=order):
        if OWN.fullmatch(entry.name) and entry.name not in (locks.LOCK, locks.MARKER, *keep):
            atomic.remove(entry)


def strangers(path: Path) -> list[str]:
    """Return the names of what lies in a run directory and is nothing that qexp made."""
    return sorted(entry.name for entry in path.iterdir() if not OWN.fullmatch(entry.name) or _is_folder(entry))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
