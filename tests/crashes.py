"""Runs in processes of their own that are killed at a chosen moment, and what has to be equal afterwards.

Shared by the tests and scripts/faults.py. A child is forked, so that it need not import torch.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from qexp import cli
from qexp.engine.saving import read

Prepare = Callable[[], None]


def run_child(words: list[str], folder: Path, prepare: Prepare | None = None, log: str = "log") -> int:
    """Run `qexp WORDS` in `folder` in a child, and return how it ended: an exit code, or minus a signal."""
    return wait_for(start_child(words, folder, prepare, log))


def start_child(words: list[str], folder: Path, prepare: Prepare | None = None, log: str = "log") -> int:
    """Start `qexp WORDS` in a child and return its pid; what it prints goes to a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if prepare:
            prepare()
        code = cli.main(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as error:
        os.write(2, f"uncaught {error!r}\n".encode())
    finally:
        os._exit(code)


def wait_for(pid: int) -> int:
    """Return how a child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(owner: Any, name: str, count: int, before: Callable[..., None] = lambda *_: None) -> Prepare:
    """Return what makes a process kill itself in the `count`-th call of a function, after `before` of its arguments."""

    def prepare() -> None:
        real, calls = getattr(owner, name), [0]

        def replaced(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == count:
                before(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, replaced)

    return prepare


def only_run(folder: Path, pattern: str = "*") -> Path:
    """Return the one run directory below `folder`."""
    (path,) = folder.glob(f"runs/*/*/{pattern}/*/status.json")
    return path.parent


def without_time(tree: Any) -> Any:
    """Return plain data without what may differ between two equal runs."""
    if isinstance(tree, dict):
        return {key: without_time(value) for key, value in tree.items() if not str(key).startswith("time_")}
    return [without_time(value) for value in tree] if isinstance(tree, list) else tree


def events(path: Path) -> list[tuple[str, int, bytes]]:
    """Return (tag, step, value) of everything in the event file of a run, in its order."""
    found = []
    for event in EventFileLoader(str(path / "events.out.tfevents.qexp")).Load():
        for value in event.summary.value:
            if not value.tag.startswith("time/"):
                found.append((value.tag, event.step, value.SerializeToString()))
    return found


def result(path: Path) -> dict[str, Any]:
    """Return all that a finished run consists of and that has to be equal; raises where something is missing."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return {
        "files": sorted(entry.name for entry in path.iterdir()),
        "state": json.loads((path / "status.json").read_text())["state"],
        "last.pt": (path / "last.pt").read_bytes(),
        "best.pt": (path / "best.pt").read_bytes(),
        "best epoch": read(path / "best.pt")["epoch"],
        "metrics.jsonl": without_time(lines),
        "summary.json": without_time(json.loads((path / "summary.json").read_text())),
        "events": events(path),
    }


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Return in what two results differ, None where they are equal."""
    parts = [key for key in expected if found.get(key) != expected[key]]
    return f"different: {', '.join(parts)}" if parts else None
