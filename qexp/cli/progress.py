"""Where a sweep or a table is: `3 of 24`, what the job is called, and about how long the rest takes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qexp import runs
from qexp.config.config import Config
from qexp.runs.run_names import long_names, short_names
from qexp.runs.variation import OptionReader
from qexp.utils.text import time_span


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do.

    Attributes:
        names: of its jobs, in their order.
        done_before: the numbers of those, from 0, that need no training.
        began: when, in seconds since 1970; processes of a launcher have no other clock in common.
    """

    names: Sequence[str]
    done_before: Sequence[int]
    began: float

    def head(self, number: int, *, seconds: float | None) -> str:
        """Return the line above a job: `3 of 24  daq W2A2  seed 0  recipe.epochs=3  (about 12 min left)`.

        Args:
            number: of the job, from 0.
            seconds: that the rest takes, this job included; None where that is not known.
        """
        left = "" if seconds is None else f"  (about {time_span(seconds)} left)"
        return f"{number + 1} of {len(self.names)}  {self.names[number]}{left}"

    def seconds_left(self, trained: Sequence[float], ended: Iterable[int]) -> float | None:
        """Return how long jobs take that run one after another; None before the first has trained.

        Args:
            trained: the seconds of each job that was trained by this sweep.
            ended: the numbers of the jobs that have ended.
        """
        return sum(trained) / len(trained) * len(self._open(ended)) if trained else None

    def seconds_left_now(
        self, trained: Sequence[float], ended: Iterable[int], seconds: float, left: float | None
    ) -> float | None:
        """Return how long jobs take that run one after another, while one of them runs; None where nothing tells.

        Args:
            trained: the seconds of each job that was trained by this sweep.
            ended: the numbers of the jobs that have ended, and of the one that runs.
            seconds: since that one began.
            left: that it takes at its own pace; None where that is not known yet.
        """
        if not trained and left is None:
            return None
        whole = sum(trained) / len(trained) if trained else seconds + (left or 0.0)
        return (max(whole - seconds, 0.0) if left is None else left) + whole * len(self._open(ended))

    def seconds_left_together(self, trained: int, ended: Iterable[int], now: float) -> float | None:
        """Return how long jobs take that run side by side, at the pace of this sweep so far; None before the first.

        Args:
            trained: how many jobs this sweep has trained.
            ended: the numbers of the jobs that have ended.
            now: in seconds since 1970.
        """
        return (now - self.began) / trained * len(self._open(ended)) if trained else None

    def _open(self, ended: Iterable[int]) -> set[int]:
        return set(range(len(self.names))) - set(self.done_before) - set(ended)

    def leave(self, folder: Path) -> None:
        """Write the plan for other processes; raises QexpError."""
        runs.write_json(folder / "plan.json", asdict(self))


def read_plan(folder: Path) -> Plan | None:
    """Return the plan that a command left for its jobs, None where it knew none."""
    found = runs.read_json(folder / "plan.json")
    return Plan(**found) if found else None


def plan_of(configs: Sequence[Config], rows: Sequence[str] = ()) -> Plan:
    """Return the plan of a sweep over these runs, or of these rows of a table, which begins now."""
    done = [] if any(config.overwrite for config in configs) else _done(configs)
    names = job_names(configs)
    return Plan([f"{row}  {name}" for row, name in zip(rows, names, strict=True)] if rows else names, done, time.time())


def _done(configs: Sequence[Config]) -> list[int]:
    return [at for at, config in enumerate(configs) if runs.state_of(runs.run_directory(config)) == "done"]


def brief_names(configs: Sequence[Config]) -> list[str]:
    """Return what the runs of a sweep are called where room is short: `daq W2A2 lr=0.01 seed 0`."""
    reader = OptionReader()
    return short_names([reader.options(config.tree) for config in configs])


def job_names(configs: Sequence[Config]) -> list[str]:
    """Return what the runs of a sweep are called: method, bits, seed, and what else varies among them."""
    reader = OptionReader()
    return long_names([reader.options(config.tree) for config in configs])
