"""Runs in processes of their own that are killed at a chosen moment, and what has to be equal afterwards.

Shared by the tests and scripts/faults. A child is forked, so that it need not import torch.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from qexp.cli.main import main
from qexp.engine.checkpointer import read_checkpoint
from qexp.utils.errors import Interrupted
from qexp.utils.signals import SIGNALS

Action = Callable[[], int]
Prepare = Callable[[], None]


def command(words: Sequence[str]) -> Action:
    """Return what carries out `qexp WORDS`."""
    return lambda: main(list(words))


def run_child(action: Action, folder: Path, prepare: Prepare = lambda: None) -> int:
    """Carry out `action` in a child, in `folder`, and return how it ended: its exit code, or minus a signal."""
    return wait_for(start_child(action, folder, prepare))


def start_child(action: Action, folder: Path, prepare: Prepare = lambda: None) -> int:
    """Carry out `action` in a child, after `prepare`; return its pid. What it prints is added to `log` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code: Any = 70
    try:
        os.chdir(folder)
        out = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))  # not those of pytest
        torch.set_num_threads(1)
        for number in SIGNALS:  # whatever the process is run by ignores
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        prepare()
        code = action()
    except (SystemExit, Interrupted) as left:
        code = left.exit_code if isinstance(left, Interrupted) else left.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait_for(pid: int) -> int:
    """Return how a child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(
    owner: Any,
    name: str,
    count: int,
    *,
    number: int = signal.SIGKILL,
    when: Callable[..., bool] = lambda *_, **__: True,
    before: Callable[..., Any] = lambda *_, **__: None,
) -> Prepare:
    """Return what makes a process send itself a signal at the beginning of a call of `owner.name`.

    Args:
        owner: module or class.
        name: of the function.
        count: which call, from 1, of those that fit.
        number: of the signal.
        when: says of the arguments of a call whether it fits.
        before: is called with the arguments before the signal.
    """

    def prepare() -> None:
        real, calls = getattr(owner, name), [0]

        def replaced(*arguments: Any, **options: Any) -> Any:
            calls[0] += when(*arguments, **options)
            if calls[0] == count:
                calls[0] += 1
                before(*arguments, **options)
                os.kill(os.getpid(), number)
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
    """Return (tag, step, value) of what the event file of a run shows of its training, in the order of the file."""
    found = []
    for event in EventFileLoader(str(path / "events.out.tfevents.qexp")).Load():
        for value in event.summary.value:
            if not value.tag.startswith(("time/", "config")):
                content = value.SerializeToString()
                if value.tag.startswith("_hparams_"):  # a map, in the order of this process' hashes
                    content = bytes(sorted(content))
                found.append((value.tag, event.step, content))
    return found


def result(path: Path) -> dict[str, Any]:
    """Return all that a finished run consists of and that has to be equal; raises where something is missing."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    layers = path / "layers.jsonl"
    summary = json.loads((path / "summary.json").read_text())
    del summary["git"]  # the code may be edited while tests run
    return {
        "files": sorted(entry.name for entry in path.iterdir()),
        "state": json.loads((path / "status.json").read_text())["state"],
        "last.pt": (path / "last.pt").read_bytes(),
        "best.pt": (path / "best.pt").read_bytes(),
        "best epoch": read_checkpoint(path / "best.pt")["epoch"],
        "metrics.jsonl": without_time(lines),
        "layers.jsonl": layers.read_text() if layers.exists() else None,
        "summary.json": without_time(summary),
        "events": events(path),
    }


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Return in what two results differ, None where they are equal."""
    parts = [key for key in expected if found.get(key) != expected[key]]
    return f"different: {', '.join(parts)}" if parts else None
