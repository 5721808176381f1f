"""The short runs that are broken, and their results when they are left alone."""

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trials import LONGEST_SECONDS, Facts, Finding, attempt, carry_out, check, nothing

import qexp.experiment.train
from qexp import runs
from qexp.config import places
from qexp.engine.checkpointer import Checkpointer
from qexp.engine.step import Step
from qexp.engine.train_state import TrainState
from qexp.experiment import evaluate
from qexp.tracking.journal import Journal
from qexp.utils import atomic
from support.crashes import Action, Prepare, command, difference, result
from support.short_runs import CASES, SHORT, half, half_a_line, search_often


@dataclass(frozen=True)
class Point:
    """A function at whose call something happens: its owner and name, and what is done before."""

    owner: Any
    name: str
    before: Callable[..., Any] = lambda *_, **__: None


POINTS = {
    "fsync": Point(os, "fsync"),
    "replace": Point(os, "replace"),
    "unlink": Point(os, "unlink"),
    "mkdir": Point(os, "mkdir"),
    "a line half written": Point(Journal, "write", half_a_line),
    "a file half written": Point(atomic, "sync", half),
    "a length of a journal": Point(Journal, "position"),
    "a backward pass": Point(Step, "forward"),
    "a step that counts": Point(TrainState, "count"),
    "a checkpoint": Point(Checkpointer, "save"),
    "an evaluation": Point(evaluate, "measure_accuracy"),
    "a status": Point(runs, "write_status"),
    "the end": Point(qexp.experiment.train, "strip_training_state"),
}


@dataclass(frozen=True)
class Case:
    """A run: its name in CASES, and whether its float net is trained first."""

    name: str
    with_parent: bool = False

    def words(self, *more: str, steps: int = 2) -> tuple[str, ...]:
        """Return the words of the command."""
        own = [word for word in CASES[self.name] if word != "init=scratch"]
        start = "init=fp" if self.with_parent else "init=scratch"
        return ("train", *SHORT, *own, start, f"checkpoint.steps={steps}", *more)

    def command(self, *more: str, steps: int = 2) -> Action:
        """Return what carries out the command."""
        return command(self.words(*more, steps=steps))


ALONE = tuple(Case(name) for name in CASES)
WITH_PARENT = tuple(Case(name, True) for name in CASES if name != "fp")


def prepared(prepare: Prepare = nothing) -> Prepare:
    """Return a preparation of every child of these cases."""

    def both() -> None:
        search_often()
        prepare()

    return both


@dataclass(frozen=True)
class Moment:
    """Some seconds after the start of a process, or after the run that it is to train has begun."""

    seconds: float
    in_run: bool

    def wait_for(self, store: Path) -> None:
        """Wait for it; the run may be over then."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while self.in_run and not places.list_runs(store) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Reference:
    """A run that was left alone: the results below its store, seconds until it began and in all, calls of POINTS."""

    results: dict[str, Any]
    began: float
    seconds: float
    calls: dict[str, int]

    def moment(self, draw: random.Random) -> Moment:
        """Return a moment of a run; a tenth are before it begins."""
        if draw.random() < 0.1:
            return Moment(draw.uniform(0, self.began), False)
        return Moment(draw.uniform(0, 0.8 * (self.seconds - self.began)), True)


@dataclass
class References:
    """Results of runs that were left alone, each made when it is asked for first."""

    folder: Path
    known: dict[Case, Reference] = field(default_factory=dict)

    def prepare(self, cases: Sequence[Case], jobs: int) -> None:
        """Make those that are not known yet.

        Raises:
            Wrong: one does not even end.
        """
        missing = {f"{case.name} {case.with_parent}": case for case in cases if case not in self.known}
        if not missing:
            return
        trials = {name: lambda folder, case=case: _left_alone(case, folder) for name, case in missing.items()}
        for finding in attempt(trials, self.folder / f"references-{len(self.known)}", jobs):
            check(finding.wrong is None, str(finding.wrong))
            self.known[missing[finding.name]] = finding.facts["reference"]

    def of(self, case: Case) -> Reference:
        """Return one that was prepared."""
        return self.known[case]


def _left_alone(case: Case, folder: Path) -> Facts:
    words, measured = case.command(), folder / "calls.json"

    def action() -> int:
        calls = {name: _count(point) for name, point in POINTS.items()}
        began, times = time.monotonic(), []
        real = runs.write_status
        runs.write_status = lambda *words: (times.append(time.monotonic() - began), real(*words))
        code = words()
        numbers = {name: len(seen) for name, seen in calls.items()}
        measured.write_text(json.dumps({"calls": numbers, "began": times[0]}))
        return code

    ended = carry_out(action, folder, prepared())
    check(ended.code == 0, f"ends with {ended.code}: {ended.err}")
    facts = json.loads(measured.read_text())
    return {"reference": Reference(results(folder), facts["began"], ended.seconds, facts["calls"])}


def _count(point: Point) -> list[None]:
    real, seen = getattr(point.owner, point.name), []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(None)
        return real(*arguments, **options)

    setattr(point.owner, point.name, counted)
    return seen


def results(folder: Path, store: str = "runs") -> dict[str, Any]:
    """Return the result of every run in a store, by its path there."""
    root = folder / store
    return {str(path.relative_to(root)): result(path) for path in places.list_runs(root)}


def compare(expected: dict[str, Any], found: dict[str, Any], parts: Sequence[str] = ()) -> None:
    """Raise Wrong where results differ: in all that a run consists of, or in some `parts` of it."""
    check(expected.keys() == found.keys(), f"runs {sorted(found)}")
    for path, whole in expected.items():
        wanted = {key: value for key, value in whole.items() if not parts or key in parts}
        differing = difference(wanted, found[path])
        check(differing is None, f"{path}: {differing}")


def finish(
    case: Case, folder: Path, expected: Reference, *more: str, steps: int = 2, parts: Sequence[str] = ()
) -> None:
    """Run a command that was broken to its end; raise Wrong where it does not get there, or elsewhere."""
    ended = carry_out(case.command(*more, steps=steps), folder, prepared())
    check(ended.code == 0, f"lost: ends with {ended.code}: {' / '.join(ended.err)}")
    compare(expected.results, results(folder), parts)
    states = {found["state"] for found in results(folder).values()}
    check(states == {"done"}, f"lost: states {states}")


@dataclass(frozen=True)
class Setting:
    """What all parts share.

    Args:
        folder: for everything.
        seed: of all that is drawn.
        points: trials of kills.
        fuzz: command lines.
        jobs: trials at a time.
        references: what comes of runs that are left alone.
    """

    folder: Path
    seed: int
    points: int
    fuzz: int
    jobs: int
    references: References

    def draw(self, name: str) -> random.Random:
        """Return a generator of its own for a part or trial."""
        return random.Random(f"{self.seed} {name}")

    def share(self, fraction: float) -> int:
        """Return a share of the points, at least 2."""
        return max(2, round(self.points * fraction))


def wrong(findings: Sequence[Finding]) -> list[str]:
    """Return what was wrong."""
    return [finding.wrong for finding in findings if finding.wrong]
