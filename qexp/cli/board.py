"""What a sweep shows of the jobs that run one after another in this process: lines, or on a terminal one live table."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from qexp import runs
from qexp.cli.job_rows import FLOAT_NET, RUNNING, JobRow, job_line, job_table
from qexp.cli.live import is_live, live_table
from qexp.cli.progress import Plan
from qexp.config.config import Config
from qexp.experiment.runner import RunOutcome
from qexp.utils.callback import Callback, EpochRecord, StepGauge, StepRecord
from qexp.utils.printing import TableConsole, say
from qexp.utils.text import time_span


class JobLines:
    """Tells of jobs in lines: for logs, pipes and batch systems.

    Args:
        plan: of the sweep.
        console: for its lines and those of the jobs.
    """

    def __init__(self, plan: Plan, console: Console):
        self.plan, self.console = plan, console
        self.trained: list[float] = []  # seconds of each job that was trained
        self.number, self.began = 0, time.monotonic()

    def begin(self, number: int, config: Config) -> None:
        """Tell that a job begins: its number, from 0, and its configuration."""
        self.tell_head(self.plan.head(number, seconds=self.plan.seconds_left(self.trained, range(number))))
        self.number, self.began = number, time.monotonic()

    def tell_head(self, head: str) -> None:
        """Tell which job it is that begins."""
        say(self.console, f"\n{head}")

    def end(self, outcome: RunOutcome) -> None:
        """Take note of how the job ended."""
        self.trained += [time.monotonic() - self.began] if outcome.state == "done" else []


class JobTable(JobLines):
    """Shows jobs in a table; lines of a job stand above it, and above the first of them which job it is.

    Args:
        plan: of the sweep.
        names: of the jobs, which have room in a table.
        stderr: whether it is shown there.
    """

    def __init__(self, plan: Plan, names: Sequence[str], *, stderr: bool):
        self._above = TableConsole(self._progress, stderr=stderr)
        super().__init__(plan, self._above)
        self.rows, self._path = [JobRow(name) for name in names], Path()

    @property
    def row(self) -> JobRow:
        """Of the job that runs, or ran last."""
        return self.rows[self.number]

    def begin(self, number: int, config: Config) -> None:
        super().begin(number, config)
        self.row.state, self._path = RUNNING, runs.run_directory(config)

    def tell_head(self, head: str) -> None:
        self._above.head = f"\n{head}"

    def end(self, outcome: RunOutcome) -> None:
        super().end(outcome)
        show_outcome(self.row, outcome)
        self.row.seconds = None if outcome.state in ("skipped", "locked") else time.monotonic() - self.began
        self._above.head = None

    def frame(self, columns: int, lines: int | None) -> Text:
        """Return the table, how far the job under way is, and about how long all the rest takes."""
        row = self.row
        if lines is None or not row.is_under_way:
            return job_table(self.rows, columns, lines, noun="job")
        left = row.seconds if row.state == RUNNING else None
        ended, passed = range(self.number + 1), time.monotonic() - self.began
        seconds = self.plan.seconds_left_now(self.trained, ended, passed, left)
        end = "" if seconds is None else f"; about {time_span(seconds)} left"
        bar = [job_line(row, self.console.options.ascii_only)] if row.steps else []
        return job_table(self.rows, columns, lines, noun="job", above=bar, end=end)

    def _progress(self, path: Path, epochs: int, steps: int) -> Callback:
        """Return what shows the training of the run in `path` in the row of its job, which may only need its result."""
        self.row.state = RUNNING if path == self._path else FLOAT_NET
        return _RowProgress(self.row, epochs, steps)


def show_outcome(row: JobRow, outcome: RunOutcome) -> None:
    """Show in a row how its job ended."""
    row.state, summary = outcome.state, outcome.summary
    if summary:
        row.top1, row.epochs = summary["top1_hard"], int(summary["epochs"])
        row.epoch = int(summary.get("epochs_trained", summary["epochs"]))


class _RowProgress(Callback):
    """Shows a training in the row of a job."""

    def __init__(self, row: JobRow, epochs: int, steps: int):
        self._row, self._gauge = row, StepGauge()
        self._first: tuple[int, float] | None = None
        row.epoch, row.epochs, row.top1, row.seconds = 0, epochs, None, None
        row.step, row.steps, row.loss, row.speed = 0, steps, None, None

    def step(self, record: StepRecord) -> None:
        row, now = self._row, time.monotonic()
        if self._first is None:  # the first step warms up
            self._first, row.epoch = (record.step, now), record.epoch
        if (found := self._gauge.reading(record)) is None:
            return
        first, began = self._first
        row.step, (row.loss, row.speed) = record.step, found
        if record.step > first:
            row.seconds = (now - began) / (record.step - first) * (record.steps - record.step)

    def epoch(self, record: EpochRecord, model: object) -> None:
        self._row.epoch = record.epoch
        self._evaluated(record)
        self._gauge.restart()

    def after_norm(self, record: EpochRecord) -> None:
        self._evaluated(record)

    def _evaluated(self, record: EpochRecord) -> None:
        if record.hard:
            self._row.top1 = record.hard.top1


@contextmanager
def showing(plan: Plan, names: Sequence[str], *, stderr: bool = False) -> Iterator[JobLines]:
    """Show the jobs of a sweep inside the block: in a table on a terminal, else in lines.

    Args:
        plan: of the sweep.
        names: of its jobs, which have room in a table.
        stderr: whether standard error is what they are shown on.
    """
    if not is_live(stderr=stderr):
        yield JobLines(plan, Console(stderr=stderr))
        return
    table = JobTable(plan, names, stderr=stderr)
    with live_table(table.console, table.frame):
        yield table
