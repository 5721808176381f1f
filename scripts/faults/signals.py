"""SIGINT, SIGTERM and SIGUSR1 at moments drawn by chance, and Ctrl-C twice."""

import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from cases import Case, Setting, finish, prepared, wrong
from rows import Row
from trials import Ended, Facts, Trial, attempt, begin, check, end, no_traceback

from qexp import runs
from qexp.config import places

CASES = (Case("daq"), Case("dqa", True), Case("br"), Case("ste", True))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
LONGEST_SECONDS = 10.0  # the promise
TURNS = 5  # for a signal that came when the run was done already
LAST_LINE = "qexp train: interrupted; the same command resumes it"


def rows(setting: Setting) -> Iterator[Row]:
    """Stop runs, and let them end; one at a time, because the time counts."""
    setting.references.prepare(CASES, setting.jobs)
    for number in CODES:
        name = signal.Signals(number).name
        trials = {f"{name} {count}": _trial(setting, f"{name} {count}", number) for count in range(setting.share(0.1))}
        yield _row(setting, name, trials)
    twice = {
        f"twice {count}": _trial(setting, f"twice {count}", signal.SIGINT, True) for count in range(setting.share(0.1))
    }
    yield _row(setting, "SIGINT twice", twice)


def _row(setting: Setting, what: str, trials: dict[str, Trial]) -> Row:
    began = time.monotonic()
    findings = attempt(trials, setting.folder / what.replace(" ", "-"), 1)
    taken = [finding.facts["seconds"] for finding in findings if finding.facts.get("seconds") is not None]
    early = sum(finding.facts.get("early", False) for finding in findings)
    late = sum(finding.facts.get("late", False) for finding in findings)
    times = f"to the end {statistics.median(taken):.2f} s (median), {max(taken):.2f} s (longest); " if taken else ""
    where = f"{early} before there was a run, {late} when it was done"
    return Row("signals", what, len(findings), wrong(findings), times + where, time.monotonic() - began)


def _trial(setting: Setting, name: str, number: int, twice: bool = False) -> Trial:
    def trial(folder: Path) -> Facts:
        draw, facts = setting.draw(name), {}
        for turn in range(TURNS):
            facts = _stop_and_finish(setting, draw, number, folder / str(turn), twice=twice)
            if not facts.get("late"):
                break
        return facts

    return trial


def _stop_and_finish(setting: Setting, draw: Random, number: int, folder: Path, *, twice: bool) -> Facts:
    case = draw.choice(CASES)
    expected = setting.references.of(case)
    pid = begin(case.command(steps=100), folder, prepared())
    expected.moment(draw).wait_for(folder / "runs")
    os.kill(pid, number)
    if twice:
        time.sleep(draw.choice((0, 0.001, 0.01)))
        os.kill(pid, number)
    ended = end(pid, folder)
    facts = _judge(ended, number, folder, case)
    finish(case, folder, expected)
    no_traceback(folder)
    return facts


def _judge(ended: Ended, number: int, folder: Path, case: Case) -> Facts:
    """Return when the signal came, and the seconds from it to the end of the process; raise Wrong."""
    states = [runs.state_of(path) for path in places.list_runs(folder / "runs")]
    check(ended.seconds < LONGEST_SECONDS, f"takes {ended.seconds:.1f} s to stop")
    if ended.code == 0:
        check(states[-1:] == ["done"], f"ends with 0 and states {states}")
        return {"late": True}
    if ended.code == -number and not (folder / "runs").exists():  # nothing listened yet
        return {"early": True}
    check(ended.code == CODES[signal.Signals(number)], f"ends with {ended.code}: {ended.err}")
    stopped = [state for state in states if state != "done"]
    check(len(stopped) <= 1 + case.with_parent and set(stopped) <= {"interrupted"}, f"states {states}")
    check(ended.err[-1:] == [LAST_LINE], f"says {ended.err}")
    return {"seconds": ended.seconds, "early": not states}
