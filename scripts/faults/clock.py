"""A wall clock that jumps by days and years while runs train."""

import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from cases import Case, Setting, finish, prepared, wrong
from rows import Row
from trials import Facts, Trial, attempt, carry_out, check, no_traceback

from qexp import runs
from qexp.engine.train_state import TrainState
from support.crashes import Prepare, events, kill_at, only_run

CASES = (Case("daq"), Case("br"))
JUMPS = tuple(sign * seconds for sign in (-1, 1) for seconds in (0.5, 3600, 86_400, 365 * 86_400))


def rows(setting: Setting) -> Iterator[Row]:
    """Let runs train under such a clock; every second one is killed on the way."""
    setting.references.prepare(CASES, setting.jobs)
    began = time.monotonic()
    trials = {f"clock {number}": _trial(setting, number) for number in range(setting.share(0.15))}
    findings = attempt(trials, setting.folder / "clock", setting.jobs)
    jumps = sum(finding.facts.get("kills", 0) for finding in findings)
    detail = f"{jumps} of them killed and gone on with"
    what = "the clock jumps by up to a year, at every tenth look"
    yield Row("clock", what, len(findings), wrong(findings), detail, time.monotonic() - began)


def jumping(seed: int, after: Prepare) -> Prepare:
    """Return what lets the clock of a process jump, and then carries out `after`."""

    def prepare() -> None:
        draw, real, offset = random.Random(seed), time.time, [0.0]

        def now() -> float:
            if draw.random() < 0.1:
                offset[0] += draw.choice(JUMPS)
            return real() + offset[0]

        class Jumping(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.fromtimestamp(real(), tz) + timedelta(seconds=draw.choice(JUMPS))

        time.time, runs.datetime = now, Jumping
        after()

    return prepare


def _trial(setting: Setting, number: int) -> Trial:
    def trial(folder: Path) -> Facts:
        draw, case = setting.draw(f"clock {number}"), CASES[number % len(CASES)]
        is_killed = number % 4 >= 2
        if is_killed:
            kill = kill_at(TrainState, "count", draw.randint(1, 12))
            killed = carry_out(case.command(), folder, prepared(jumping(draw.getrandbits(32), kill)))
            check(killed.code == -signal.SIGKILL, f"was not killed: {killed}")
        ended = carry_out(case.command(), folder, prepared(jumping(draw.getrandbits(32), lambda: None)))
        check(ended.code == 0, f"ends with {ended.code}: {ended.err}")
        finish(case, folder, setting.references.of(case))
        no_traceback(folder)
        _in_order(only_run(folder))
        return {"kills": int(is_killed)}

    return trial


def _in_order(run: Path) -> None:
    """Raise Wrong unless there is one event file, and the steps of each curve rise in it."""
    check(len(list(run.glob("events*"))) == 1, "several event files")
    steps: dict[str, list[int]] = {}
    for tag, step, _ in events(run):
        steps.setdefault(tag, []).append(step)
    check(len(steps) > 10, f"curves {list(steps)}")
    for tag, found in steps.items():
        check(found == sorted(set(found)), f"{tag}: steps {found}")
