"""`qexp runs --watch`: a live table of runs, from any terminal on any machine that sees the store."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from qexp.cli.job_rows import RUNNING, JobRow, job_table
from qexp.cli.live import is_live, live_table
from qexp.cli.pace import stored_pace
from qexp.runs import query
from qexp.runs.query import DAMAGED, Entry, number
from qexp.runs.run_names import known_options, short_names
from qexp.runs.run_values import listed_runs
from qexp.runs.stored_trees import StoredTrees
from qexp.utils.errors import Interrupted, UsageError
from qexp.utils.text import time_span

POLL_SECONDS = 1.0  # between looks at what is running
LOOK_SECONDS = 5.0  # between looks for what is new, or has begun again

_Stamp = tuple[int, int]  # of a status.json: time and inode


class StoreWatch:
    """The runs of a store that fit, as rows; a run that does not run is read again when its status.json is another.

    Args:
        root: the store.
        words: of the command, as those of `query.select`.
        states: of the runs, empty for all.

    Attributes:
        rows: what ended first stands above, what is running below.
    """

    def __init__(self, root: Path, words: Sequence[str], states: Sequence[str]):
        self._root, self._words, self._states = root, words, states
        self._trees = StoredTrees()
        self._known: dict[Path, tuple[_Stamp, Entry]] = {}
        self._names: dict[Path, str] = {}
        self._rows: dict[Path, JobRow] = {}
        self.rows: list[JobRow] = []

    def look(self) -> None:
        """Look for runs that are new or have changed, and choose again; raise UsageError for a word that fits none."""
        paths = query.run_paths(self._root)
        self._known = {path: self._read(path) for path in paths}
        self._choose()

    def poll(self) -> None:
        """Look again at what is running."""
        running = [path for path, (_, entry) in self._known.items() if entry.state == "running"]
        for path in running:
            self._known[path] = _stamp(path), Entry(path, self._trees)
        with suppress(UsageError):  # of a word that fits no run any more
            self._choose()

    def _read(self, path: Path) -> tuple[_Stamp, Entry]:
        stamp, known = _stamp(path), self._known.get(path)
        if known and known[0] == stamp and known[1].state != DAMAGED:  # which may only not have been readable
            return known
        return stamp, Entry(path, self._trees)

    def _choose(self) -> None:
        every = [entry for _, entry in self._known.values()]
        try:
            found, _ = query.select(self._root, self._words, self._states, every=every)
        except UsageError:
            self.rows = []
            raise
        if self._names.keys() != {entry.path for entry in found}:
            self._names = _names(found)
        rows = {entry.path: self._row(entry) for entry in found}
        when = {entry.path: (entry.state == "running", str(entry.status.get("time", ""))) for entry in found}
        self.rows = [rows[path] for path in sorted(rows, key=lambda path: (*when[path], path))]

    def _row(self, entry: Entry) -> JobRow:
        row = JobRow(self._names[entry.path], entry.state)
        if entry.state == RUNNING:
            pace = stored_pace(entry.path)
            row.epoch, row.epochs, row.top1, row.seconds = pace.epoch, pace.epochs, pace.top1, pace.seconds_left
            return row
        summary = entry.result
        row.top1, row.seconds = number(summary, "top1_hard"), number(summary, "time_seconds")
        for key in ("epoch", "epochs"):
            found = number(entry.last_epoch, key)
            setattr(row, key, None if found is None else int(found))
        return row


def _stamp(path: Path) -> _Stamp:
    try:
        found = (path / "status.json").stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _names(entries: Sequence[Entry]) -> dict[Path, str]:
    """Return what each run is called: its hash, and what varies among them."""
    runs = listed_runs(entries)
    names = short_names([known_options(run.entry, run.options) for run in runs], [entry.label for entry in entries])
    return {entry.path: f"{entry.key}  {name}" for entry, name in zip(entries, names, strict=True)}


def watch(root: Path, words: Sequence[str], states: Sequence[str]) -> int:
    """Show the runs that fit in a live table until Ctrl-C; return the exit code.

    Raises:
        UsageError: a word that fits no run, or no terminal to show it on.
    """
    if not is_live():
        raise UsageError("--watch needs a terminal that a table can change on; without it the runs are listed once")
    store = StoreWatch(root, words, states)
    store.look()
    looked = time.monotonic()

    def frame(columns: int, lines: int | None) -> Text:
        rows = store.rows
        left = [row.seconds for row in rows if row.state == RUNNING and row.seconds is not None]
        end = f"; about {time_span(max(left))} until all that run have ended" if left else ""
        above = [Text(f"  no such runs in {root} yet", "dim")] if not rows else []
        return job_table(rows, columns, lines, noun="run", above=above, end=end)

    try:
        with live_table(Console(), frame):
            while True:
                time.sleep(POLL_SECONDS)
                with suppress(OSError, UsageError):  # of a store that cannot be read for a while; of a word
                    store.poll()
                    if time.monotonic() - looked >= LOOK_SECONDS:
                        looked = time.monotonic()
                        store.look()
    except Interrupted as error:
        if error.exit_code != 130:
            raise
    return 0
