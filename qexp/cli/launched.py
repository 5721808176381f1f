"""The live table of jobs that a launcher runs in other processes, as far as their folder and the store tell of them."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from qexp import runs
from qexp.cli.board import show_outcome
from qexp.cli.exchange import Exchange
from qexp.cli.job_rows import FLOAT_NET, RUNNING, JobRow, job_table
from qexp.cli.live import is_live, live_table
from qexp.cli.output import Lasting
from qexp.cli.pace import StoredPace, stored_pace
from qexp.cli.progress import Plan, brief_names
from qexp.cli.text import WIDTH_OF_A_PIPE
from qexp.config.config import Config, float_parent_of
from qexp.utils import signals
from qexp.utils.callback import Callback
from qexp.utils.printing import TableConsole, say
from qexp.utils.text import time_span

_POLL_SECONDS = 1.0


class LaunchedTable:
    """A row for each job of a command: of all where they are known, else of those that have begun.

    Args:
        shared: the folder of the command.
        plan: of the sweep, None where its jobs are not known.
        configs: of these jobs.
        console: for what they say.
    """

    def __init__(self, shared: Exchange, plan: Plan | None, configs: Sequence[Config], console: Console):
        self._shared, self._plan, self._console = shared, plan, console
        known = configs if plan else ()
        self.rows = {number: JobRow(name) for number, name in enumerate(brief_names(known))}
        self._parents = {
            at: runs.run_directory(float_parent_of(own)) for at, own in enumerate(known) if own.init == "fp"
        }
        self._read: dict[Path, int] = {}  # how much of what a job said was shown
        self._polled = 0.0
        self._ended: set[int] = set()
        self._left: tuple[float, float] | None = None  # seconds, and when that was

    def poll(self) -> None:
        """Look for what is new, once a second."""
        if time.monotonic() - self._polled < _POLL_SECONDS:
            return
        self._polled = time.monotonic()
        self.show_said()
        for record in self._shared.unfinished():
            self._show_running(self._row(record.number, record.overrides), record.number, Path(record.outcome.path))
        records = self._shared.records()
        for record in records:
            row = self._row(record.number, record.overrides)
            show_outcome(row, record.outcome)
            row.seconds = (record.outcome.summary or {}).get("time_seconds") if row.state == "done" else None
        ended = {record.number for record in records}
        if self._plan and ended > self._ended:
            trained = sum(record.outcome.state == "done" for record in records)
            seconds = self._plan.seconds_left_together(trained, ended, time.time())
            self._left = None if seconds is None else (seconds, time.monotonic())
        self._ended = ended

    def show_said(self) -> None:
        """Print the whole lines that jobs have said since the last time."""
        for path in self._shared.said_files():
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
                self._read[path] = self._read.get(path, 0) + len(whole + end)
                if end:
                    say(self._console, whole.decode(errors="replace"))

    def frame(self, columns: int, lines: int | None) -> Text:
        """Return the table, and about how long all takes that has not ended."""
        end = ""
        if self._left and lines is not None:
            seconds, when = self._left
            end = f"; about {time_span(max(seconds - (time.monotonic() - when), 0.0))} left"
        return job_table([self.rows[at] for at in sorted(self.rows)], columns, lines, noun="job", end=end)

    def _row(self, number: int, words: Sequence[str]) -> JobRow:
        return self.rows.setdefault(number, JobRow(" ".join(words)))

    def _show_running(self, row: JobRow, number: int, path: Path) -> None:
        row.state, pace = RUNNING, stored_pace(path)
        parent = self._parents.get(number)
        if pace == StoredPace() and parent is not None and runs.state_of(parent) == "running":
            row.state, pace = FLOAT_NET, stored_pace(parent)
        row.epoch, row.epochs, row.top1, row.seconds = pace.epoch, pace.epochs, pace.top1, pace.seconds_left


@contextmanager
def showing_launched(shared: Exchange, plan: Plan | None, configs: Sequence[Config]) -> Iterator[None]:
    """Show the jobs of a command in a table inside the block, on a terminal; else they tell of themselves."""
    if not is_live():
        yield
        return
    shared.announce_table()
    console = Console()
    table = LaunchedTable(shared, plan, configs, console)
    try:
        with live_table(console, table.frame, table.poll):
            yield
    finally:
        table.show_said()


@contextmanager
def console_of_job(shared: Exchange, number: int, head: str, *, is_alone: bool) -> Iterator[Console]:
    """Yield the console of a job, where its head has been said: the terminal, or a file that its command reads.

    Args:
        shared: the folder of the command.
        number: of the job.
        head: which job it is.
        is_alone: whether it runs in the process of the command. Jobs that a launcher runs side by side share the
            terminal: a progress bar each would overwrite the others.
    """
    with ExitStack() as closing:
        file = None
        if shared.has_table:
            with suppress(OSError):  # a full disk: the end of the job says it
                file = closing.enter_context(shared.said_file(number).open("a", buffering=1, errors="replace"))
        if file is None:
            console = Console() if is_alone else Console(force_terminal=False, width=WIDTH_OF_A_PIPE)
            say(console, f"\n{head}")
            yield console
            return
        said, descriptor = Lasting(file), file.fileno()
        if not is_alone:
            closing.enter_context(redirect_stdout(said))
            closing.enter_context(redirect_stderr(said))
            closing.enter_context(signals.told_to(lambda text: _write_down(descriptor, text)))
        table = TableConsole(lambda *_: Callback(), file=said, force_terminal=False, width=WIDTH_OF_A_PIPE)
        table.head = f"\n{head}"
        yield table


def _write_down(descriptor: int, text: str) -> None:
    """Write what a signal says, which may come in the middle of writing to the same file."""
    with suppress(OSError):
        os.write(descriptor, text.encode())
