"""Calls of the system that fail once, and folders and runs that belong to somebody else."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import POINTS, Case, Point, Setting, compare, prepared, results
from disk import CASES, contents, one_line, row, usable
from rows import Row
from trials import Facts, Trial, carry_out, check

from qexp.config.compose import composing
from qexp.engine.train_state import TrainState
from support.crashes import Prepare, command, kill_at

DENIED, NOBODY = os.strerror(errno.EACCES), 65534
NUMBERS = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def rows(setting: Setting) -> Iterator[Row]:
    """Errors of single calls, and missing rights."""
    setting.references.prepare(CASES, setting.jobs)
    broken = {f"error {number}": _broken(setting, f"error {number}") for number in range(setting.share(0.3))}
    yield row(setting, "fsync, rename, mkdir or unlink fails once: full, over quota, broken, read-only", broken)
    if os.geteuid() == 0:
        yield row(setting, "folder, or run, of another user", {"folder denied": _folder, "run denied": _run})
    else:
        yield Row("disk", "of another user: not run, needs root", 0)


def _folder(folder: Path) -> Facts:
    store = folder / "store"
    store.mkdir(mode=0o555)
    ended = carry_out(CASES[0].command(f"runs_dir={store}"), folder, prepared(_become_nobody))
    one_line(ended, 2, DENIED)
    check(not list(store.iterdir()), "something was created")
    return {"failed": True}


def _run(folder: Path) -> Facts:
    check(carry_out(CASES[0].command(), folder, prepared(kill_at(TrainState, "count", 7))).code < 0, "was not killed")
    before = contents(folder / "runs")
    ended = carry_out(CASES[0].command(), folder, prepared(_become_nobody))
    one_line(ended, 2, DENIED)
    check(contents(folder / "runs") == before, "something has changed")
    return {"failed": True}


def _become_nobody() -> None:
    with composing() as composer:  # imports what is left to import: Python itself may lie in the home of root
        composer.job(())
    os.setuid(NOBODY)


def _broken(setting: Setting, name: str) -> Trial:
    def trial(folder: Path) -> Facts:
        draw = setting.draw(name)
        case = draw.choice(CASES)
        expected = setting.references.of(case)
        point = draw.choice(("fsync", "replace", "mkdir", "unlink"))
        count = draw.randint(1, expected.calls[point])
        number = draw.choice(NUMBERS[:2] if point == "unlink" else NUMBERS)  # to remove a file takes no space
        ended = carry_out(case.command(), folder, prepared(fail_at(POINTS[point], count, number)))
        if ended.code:
            one_line(ended, 1, os.strerror(number))
            usable(folder / "runs", folder)
        again = carry_out(case.command(), folder, prepared())
        check(again.code == 0, f"lost: ends with {again.code}: {again.err}")
        if case.with_parent:
            _tidy_float(case, folder)
        compare(expected.results, results(folder))
        return {"failed": ended.code != 0}

    return trial


def _tidy_float(case: Case, folder: Path) -> None:
    """Ask for the float net itself: where its last checkpoint could not be made smaller, its own command does that."""
    words = ["quantizer=fp" if word.startswith("quantizer=") else word for word in case.words()]
    ended = carry_out(command(words), folder, prepared())
    check(ended.code == 0, f"the float net was not done: {ended}")


def fail_at(point: Point, count: int, number: int) -> Prepare:
    """Return what lets one call fail with an error number."""

    def prepare() -> None:
        real, calls = getattr(point.owner, point.name), [0]

        def replaced(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == count:
                named = [str(path) for path in arguments[:1] if not isinstance(path, int)]
                raise OSError(number, os.strerror(number), *named)
            return real(*arguments, **options)

        setattr(point.owner, point.name, replaced)

    return prepare
