"""Commands in children, and many trials side by side in processes that never computed anything themselves."""

import os
import pickle
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.crashes import Action, Prepare, start_child

LONGEST_SECONDS = 300.0  # of a command; one takes about a second


class Wrong(Exception):
    """What went otherwise than promised."""


Facts = Mapping[str, Any]
Trial = Callable[[Path], Facts]


@dataclass(frozen=True)
class Finding:
    """What came of a trial: what was wrong, or its facts."""

    name: str
    wrong: str | None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code or minus a signal, its lines on stderr, and how long it took."""

    code: int
    err: list[str]
    seconds: float


def check(is_right: bool, problem: str) -> None:
    """Raise Wrong unless all is right."""
    if not is_right:
        raise Wrong(problem)


def nothing() -> None:
    """Prepare nothing."""


def begin(action: Action, folder: Path, prepare: Prepare = nothing) -> int:
    """Start `action` in a child; return its pid. Output is added to `log` in `folder`, stderr replaces `err`."""

    def own_stderr() -> None:
        os.dup2(os.open("err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
        prepare()

    return start_child(action, folder, own_stderr)


def end(pid: int, folder: Path, limit: float = LONGEST_SECONDS) -> Ended:
    """Wait for a child; kill it and raise Wrong if it takes longer than `limit` seconds."""
    began = time.monotonic()
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if found:
            err = (folder / "err").read_text().splitlines() if (folder / "err").exists() else []
            return Ended(os.waitstatus_to_exitcode(status), err, seconds)
        if seconds > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Wrong(f"takes longer than {limit:.0f} s")
        time.sleep(0.002)


def carry_out(action: Action, folder: Path, prepare: Prepare = nothing) -> Ended:
    """Carry out `action` in a child, from its start to its end."""
    return end(begin(action, folder, prepare), folder)


def no_traceback(folder: Path) -> None:
    """Raise Wrong if any command in `folder` printed a traceback."""
    for name in ("log", "err"):
        path = folder / name
        check(not path.exists() or "Traceback" not in path.read_text(errors="replace"), f"a traceback in {name}")


def attempt(trials: Mapping[str, Trial], folder: Path, jobs: int) -> list[Finding]:
    """Carry out trials, each in a folder of its own, which stays only where something was wrong.

    Args:
        trials: by their names.
        folder: to make theirs in.
        jobs: how many at a time.
    """
    folder.mkdir(parents=True)
    workers = [_start_worker(list(trials.items())[number::jobs], folder, number) for number in range(jobs)]
    found: dict[str, Finding] = {}
    try:
        for pid in workers:
            os.waitpid(pid, 0)
    except BaseException:  # Ctrl-C, or a signal of whoever runs this
        for pid in workers:
            with suppress(OSError):  # ended, and waited for
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        raise
    for number in range(jobs):
        with (folder / f"worker-{number}").open("rb") as file:
            while True:
                try:
                    finding = pickle.load(file)
                except EOFError:
                    break
                found[finding.name] = finding
    return [found.get(name) or Finding(name, "the process of the trial ended") for name in trials]


def _start_worker(trials: Sequence[tuple[str, Trial]], folder: Path, number: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with (folder / f"worker-{number}").open("wb") as file:
            for name, trial in trials:
                pickle.dump(_try(name, trial, folder / re.sub(r"\W+", "-", name)[:60]), file)
                file.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _try(name: str, trial: Trial, folder: Path) -> Finding:
    folder.mkdir()
    try:
        facts = trial(folder)
    except Wrong as error:
        return Finding(name, f"{name}: {error}")
    except Exception:
        return Finding(name, f"{name}: {traceback.format_exc()[-700:]!r}")
    shutil.rmtree(folder, ignore_errors=True)
    return Finding(name, None, facts)
