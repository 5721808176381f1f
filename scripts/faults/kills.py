"""kill -9 at moments and in calls drawn by chance, up to three times in a row."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cases import ALONE, POINTS, WITH_PARENT, Case, Moment, Reference, Setting, finish, prepared, wrong
from rows import Row
from trials import Facts, Wrong, attempt, begin, check, end, no_traceback

from support.crashes import kill_at

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Kill:
    """At a moment, or at a call of one of POINTS."""

    moment: Moment | None = None
    point: str = ""
    count: int = 1

    def apply(self, case: Case, folder: Path, steps: int) -> int:
        """Start the command, kill it, and return how it ended."""
        action = case.command(steps=steps)
        if self.moment is None:
            at = POINTS[self.point]
            pid = begin(action, folder, prepared(kill_at(at.owner, at.name, self.count, before=at.before)))
            return end(pid, folder).code
        pid = begin(action, folder, prepared())
        self.moment.wait_for(folder / "runs")
        os.kill(pid, signal.SIGKILL)
        return end(pid, folder).code


def rows(setting: Setting) -> Iterator[Row]:
    """Kill runs of every case, and let them end."""
    setting.references.prepare((*ALONE, *WITH_PARENT), setting.jobs)
    began, trials = time.monotonic(), {}
    for number in range(setting.points):
        trials[f"kill {number}"] = lambda folder, number=number: _trial(setting, number, folder)
    findings = attempt(trials, setting.folder / "kills", setting.jobs)
    phases = Counter(phase for finding in findings for phase in finding.facts.get("phases", ()))
    parents = sum(finding.facts.get("with parent", False) for finding in findings)
    where = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
    what = f"kill -9, up to three in a row, over {len(findings)} runs of {len(ALONE)} kinds ({parents} with float net)"
    yield Row("kills", what, phases.total(), wrong(findings), where, time.monotonic() - began)


def _trial(setting: Setting, number: int, folder: Path) -> Facts:
    draw = setting.draw(f"kill {number}")
    kinds = WITH_PARENT if draw.random() < 0.25 else ALONE
    case, steps = kinds[(number * 5 + draw.randrange(2)) % len(kinds)], draw.choice((1, 2, 3, 5))
    expected, phases, told = setting.references.of(case), [], []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kill = _drawn(draw, expected)
        code = kill.apply(case, folder, steps)
        told.append(f"{kill} -> {code}")
        check(code in (0, KILLED), f"{case}, steps={steps}, {told}: ends with {code}")
        if code == KILLED:
            phases.append(phase(folder))
    try:
        finish(case, folder, expected, steps=steps)
        no_traceback(folder)
    except Exception as error:
        raise Wrong(f"{case}, steps={steps}, {told}: {error!r}") from error
    return {"phases": phases, "with parent": case.with_parent}


def _drawn(draw: random.Random, expected: Reference) -> Kill:
    if draw.random() < 0.4:
        return Kill(expected.moment(draw))
    point = draw.choice([name for name in POINTS if expected.calls[name]])
    return Kill(point=point, count=draw.randint(1, expected.calls[point]))


def phase(folder: Path) -> str:
    """Return in words how far the last run in a folder was when it was killed."""
    found = sorted(folder.glob("runs/[!.]*/*/*/*"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        return "before the run began"
    if (found[-1] / "summary.json").exists():
        return "after the summary"
    if not (found[-1] / "last.pt").exists() and not (found[-1] / "previous.pt").exists():
        return "before the first checkpoint"
    return "between checkpoints"
