"""A paper's table joined with runs: the jobs of its rows, what the run store knows of them, and their statistics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from qexp import runs
from qexp.config.compose import Composer, Job
from qexp.config.config import Config, float_parent_of
from qexp.config.identity import RUNTIME
from qexp.config.schema import Invalid, Problem
from qexp.runs.measured_bits import MeasuredBits, mean_of, measured_bits
from qexp.tables.published import OWN, Row, Table, load_table, own_words, select_rows
from qexp.utils.text import is_number

FIRM = 0.3  # points: a larger spread is told, however large the difference

NOT_HERE = {
    "seed": "--seeds names the seeds",
    "protocol": "--protocol names the protocol",
    "overwrite": "--run trains only what is missing; qexp train overwrite=true repeats one run",
}


@dataclass(frozen=True)
class SeedRun:
    """One seed of a row: where it lives, and what is known of it. `summary` is that of a finished run."""

    job: Job
    config: Config
    path: Path
    state: str
    summary: Mapping[str, Any] | None = None
    float_top1: float | None = None  # of the float net that it started from, or of one of the same recipe
    float_changes: tuple[str, ...] = ()  # in what data and recipe of that net differ

    @property
    def message(self) -> str:
        """Why it failed."""
        return str((runs.read_json(self.path / "status.json") or {}).get("message") or "")


def look_up(job: Job) -> SeedRun:
    """Return what the run store knows of a job that has a configuration."""
    config = job.checked
    path = runs.run_directory(config)
    state, summary = _finished(path)
    net = summary.get("float_net") if summary else None
    changes = tuple(map(str, net.get("changes", ()))) if isinstance(net, Mapping) else ()
    if config.init in ("fp", "scratch") or config.is_float:
        _, baseline = _finished(runs.run_directory(float_parent_of(config)))
        top1 = baseline["top1_hard"] if baseline else None
    else:  # of the net that it started from; versions before this one did not look at that
        top1 = summary["float_top1"] if summary and isinstance(net, Mapping) else None
    return SeedRun(job, config, path, state, summary, top1, changes)


def _finished(path: Path) -> tuple[str, dict[str, Any] | None]:
    state = runs.state_of(path) or "not run"
    summary = runs.read_result(path) if state == "done" else None
    return ("not run", None) if state == "done" and summary is None else (state, summary)


@dataclass(frozen=True)
class Line:
    """A row joined with its runs, one per seed; none where `reason` says why it cannot run."""

    row: Row
    runs: tuple[SeedRun, ...] = ()
    reason: str = ""

    @property
    def accuracies(self) -> list[float]:
        """Hard top-1 of the finished runs, in percent."""
        return [run.summary["top1_hard"] for run in self.runs if run.summary]

    @property
    def mean(self) -> float | None:
        """Of the accuracies."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation of two accuracies or more."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def is_unconverged(self) -> bool:
        """Whether some quantizers of a run ended above their lowest bit-width."""
        return any(run.summary and run.summary["unsettled"] for run in self.runs)

    @property
    def float_changes(self) -> list[str]:
        """In what the float nets of its runs were trained otherwise."""
        return list(dict.fromkeys(change for run in self.runs for change in run.float_changes))

    @property
    def spread(self) -> float | None:
        """The largest spread of a run's accuracy by rounding, in points; None where firmness was not measured."""
        groups = [run.summary.get("firmness") for run in self.runs if run.summary]
        spreads: list[Any] = [group.get("spread") for group in groups if isinstance(group, Mapping)]
        return max(filter(is_number, spreads), default=None)

    @property
    def bits(self) -> MeasuredBits | None:
        """Those of the layers of its finished runs, in the mean; None where all are as configured."""
        found = [measured_bits(run.summary) for run in self.runs if run.summary]
        return mean_of([own for own in found if own])

    @property
    def missing(self) -> list[SeedRun]:
        """The runs that are not finished."""
        return [run for run in self.runs if run.summary is None]

    @property
    def state(self) -> str:
        """The state of all its runs in a few words."""
        if not self.runs:
            return "cannot run" if self.reason else "not in qexp"
        states = Counter(run.state for run in self.runs)
        if len(states) == 1:
            return self.runs[0].state
        others = [f"{count} {state}" for state, count in states.items() if state not in ("done", "not run")]
        return ", ".join([f"{len(self.accuracies)}/{len(self.runs)} seeds", *others])

    def minus_reported(self) -> float | None:
        """Return our mean minus the published number, in points."""
        return None if self.mean is None or self.row.reported.top1 is None else self.mean - self.row.reported.top1

    def minus_float(self) -> float | None:
        """Return the mean difference to the float nets of the same seeds, in points; None for a float row."""
        pairs = [
            run.summary["top1_hard"] - run.float_top1
            for run in self.runs
            if run.summary and run.float_top1 is not None and run.config.quantizer.name != "fp"
        ]
        return fmean(pairs) if pairs else None


@dataclass(frozen=True)
class JoinedTable:
    """A table joined with runs.

    Attributes:
        name: of the table.
        table: its data.
        lines: its rows with their runs.
        seeds: of the runs.
        protocol: of the runs.
        changes: overrides of the user that change what the runs compute.
    """

    name: str
    table: Table
    lines: Sequence[Line]
    seeds: Sequence[int]
    protocol: str
    changes: Sequence[str]

    @property
    def is_own(self) -> bool:
        """Whether the runs follow the table's own protocol, so that they can be held against the paper."""
        return self.protocol == OWN and not self.changes

    def difference(self, line: Line) -> float | None:
        """Return ours minus the paper's number, or minus our float net under another protocol; in points."""
        return line.minus_reported() if self.is_own else line.minus_float()

    def hangs_on_rounding(self, line: Line) -> bool:
        """Whether the spread of a run exceeds 0.3 points, or the difference that the row is about."""
        difference = self.difference(line)
        limit = FIRM if difference is None else min(FIRM, abs(difference))
        return line.spread is not None and line.spread > limit

    def missing(self) -> list[tuple[Line, SeedRun]]:
        """Return what is neither finished nor being trained: all rows for the first seed, then for the next."""
        found = [(line, run) for line in self.lines for run in line.missing if run.state != "running"]
        return sorted(found, key=lambda pair: self.seeds.index(pair[1].config.seed))


@dataclass(frozen=True)
class TableRequest:
    """What is asked of a table.

    Attributes:
        rows: ids or patterns, comma-separated; None for all.
        seeds: None for the table's own.
        protocol: of the runs.
        overrides: words of `qexp train` for every row.
    """

    rows: str | None
    seeds: tuple[int, ...] | None
    protocol: str
    overrides: tuple[str, ...]


def join(folder: Path, name: str, request: TableRequest, composer: Composer) -> JoinedTable:
    """Return a table joined with its runs.

    Raises:
        UsageError: no such table or rows.
        Invalid: overrides that do not fit, with everything that is wrong.
    """
    table = load_table(folder, name)
    rows = select_rows(table.rows, request.rows)
    seeds = request.seeds or table.seeds
    _check_overrides(composer, request.overrides)
    lines, changed = _lines(table, rows, seeds, request, composer)
    changes = [word for word in request.overrides if changed and not _is_runtime(word)]
    return JoinedTable(name, table, lines, seeds, request.protocol, changes)


def _check_overrides(composer: Composer, words: Sequence[str]) -> None:
    """Raise Invalid for words that cannot be options of every row; the rest shows when they are composed."""
    overrides, problems = composer.parse(words)
    for override in overrides:
        key, line = override.key_or_group, str(override.input_line)
        if not key:
            problems.append(Problem(line, "expected key=value"))
        elif override.is_sweep_override():
            problems.append(Problem(line, "names several values; a table has one of each"))
        elif key in NOT_HERE:
            problems.append(Problem(line, NOT_HERE[key]))
        elif "/" in key or key.startswith("hydra"):
            problems.append(Problem(line, "is an option of Hydra; only those of qexp can be given here"))
    if problems:
        raise Invalid(problems)


def _lines(
    table: Table, rows: Sequence[Row], seeds: Sequence[int], request: TableRequest, composer: Composer
) -> tuple[list[Line], bool]:
    """Return the rows with their runs, and whether the user's overrides change what the rows compute.

    Raises:
        Invalid: the user's overrides do not fit a row that would run without them.
    """
    lines: list[Line] = []
    changed = False
    for row in rows:
        if row.overrides is None:
            lines.append(Line(row))
            continue
        own = own_words(table, row, request.protocol)
        alone = composer.job((*own, f"seed={seeds[0]}"))
        if found := alone.problems:
            lines.append(Line(row, reason="; ".join(map(str, found))))
            continue
        jobs = [composer.job((*own, *request.overrides, f"seed={seed}")) for seed in seeds]
        if found := jobs[0].problems:
            raise Invalid([replace(problem, message=f"{problem.message} (row {row.id})") for problem in found])
        lines.append(Line(row, tuple(map(look_up, jobs))))
        changed = changed or jobs[0].checked.key != alone.checked.key
    return lines, changed


def _is_runtime(word: str) -> bool:
    """Whether a word says where and on what a run is done, not what it computes."""
    group = word.lstrip("+").partition("=")[0].partition(".")[0]
    return group in RUNTIME and group != "bits"
