"""What the jobs of one command leave for it, and what it tells them, in whatever processes they run."""

import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from qexp import runs
from qexp.experiment.runner import Outcome
from qexp.utils.errors import cannot_write

SCRATCH = "QEXP_SCRATCH"  # names the folder to jobs in other processes

FAILED = ("failed", "diverged")


@dataclass(frozen=True)
class Record:
    """How a job ended: its number and overrides, the outcome of its run, and the exit code if it was alone."""

    number: int
    overrides: tuple[str, ...]
    outcome: Outcome
    code: int = 0


@dataclass(frozen=True)
class Exchange:
    """A folder that belongs to one command, for its jobs.

    `stop` in it holds a signal, and asks the running jobs to stop; `halt` asks for no new ones.
    """

    folder: Path

    @property
    def stop_file(self) -> Path:
        """The file `stop`."""
        return self.folder / "stop"

    def halt(self) -> None:
        """Let no job begin any more."""
        with suppress(OSError):
            (self.folder / "halt").touch()

    @property
    def is_halted(self) -> bool:
        """Whether no job shall begin any more."""
        return self.stop_file.exists() or (self.folder / "halt").exists()

    def put(self, record: Record) -> None:
        """Leave a record; raises QexpError."""
        runs.write_json(self.folder / f"job-{record.number:06d}.json", asdict(record))

    def records(self) -> list[Record]:
        """Return the records of all jobs that left one, in the order of the jobs."""
        found = []
        for path in sorted(self.folder.glob("job-*.json")):
            if data := runs.read_json(path):
                outcome, words = Outcome(**data.pop("outcome")), tuple(data.pop("overrides"))
                found.append(Record(outcome=outcome, overrides=words, **data))
        return found

    def remove(self) -> None:
        """Remove the folder, and the one around it if that is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


@contextmanager
def exchange(store: Path) -> Iterator[Exchange]:
    """Make the folder of a command in the run store, and name it to the processes that begin inside the block.

    Raises:
        QexpError: it cannot be made; nothing is left of it.
    """
    _remove_left(store.resolve() / ".jobs")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{os.getpid()}"
    made = Exchange(store.resolve() / ".jobs" / name)
    new = [folder for folder in (made.folder.parent, *made.folder.parent.parents) if not folder.exists()]
    try:
        made.folder.mkdir(parents=True)
    except OSError as error:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise cannot_write(store, error) from error
    os.environ[SCRATCH] = str(made.folder)
    try:
        yield made
    finally:
        made.remove()


def _remove_left(folder: Path) -> None:
    """Remove the folders of commands on this machine that were killed."""
    for left in folder.glob(f"*-{socket.gethostname()}-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # somebody else's
    return True


def in_progress() -> Exchange:
    """Return the folder of the command that this process works for."""
    return Exchange(Path(os.environ[SCRATCH]))


def summary_line(records: Sequence[Record], jobs: int | None) -> str:
    """Return `12 jobs: 7 done, 3 skipped, 1 failed, 1 not run`; `jobs` is how many there were to be, where known."""
    states = [record.outcome.state for record in records]
    missing = 0 if jobs is None else max(jobs - len(records), 0)
    counts = {state: states.count(state) for state in dict.fromkeys(states)} | ({"not run": missing} if missing else {})
    total = len(records) + missing
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{total} job{'' if total == 1 else 's'}: {listed}"


def again(words: Sequence[str], flags: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Return the words of `qexp train` that run those jobs again that failed: alone, or the whole sweep.

    Args:
        words: of the command, flags included.
        flags: of the command, but for -m.
        records: of its jobs.
    """
    failed = [record for record in records if record.outcome.state in FAILED]
    return [*flags, *failed[0].overrides] if len(failed) == 1 else list(words)
