"""The folder of one command for its jobs in other processes: what they leave there, and what it tells them."""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from qexp import runs
from qexp.cli.jobs import JobRecord
from qexp.experiment.runner import RunOutcome
from qexp.runs.locks import holding, is_locked
from qexp.utils import atomic
from qexp.utils.errors import UsageError, cannot_write

SCRATCH = "QEXP_SCRATCH"  # the variable that names the folder


@dataclass(frozen=True)
class Exchange:
    """A folder that belongs to one command, for its jobs.

    `stop` in it holds a signal, and asks the running jobs to stop; `halt` asks for no new ones; `only` names the one
    job that may begin; `table` tells that the command shows them in a table. A job leaves `begun-NUMBER-ATTEMPT.json`
    when it begins and `job-NUMBER.json` when it ends; where there is a table, `said_NUMBER.log` is what it says.
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

    def announce_table(self) -> None:
        """Let the jobs say all in files, because the command shows a table; raises QexpError."""
        atomic.write(self.folder / "table", b"")

    @property
    def has_table(self) -> bool:
        """Whether the command shows a table."""
        return (self.folder / "table").exists()

    def said_file(self, number: int) -> Path:
        """Return the file for what a job says."""
        return self.folder / f"said_{number:06d}.log"

    def said_files(self) -> list[Path]:
        """Return those that there are."""
        return sorted(self.folder.glob("said_*.log"))

    def put(self, record: JobRecord) -> None:
        """Leave a record; raises QexpError."""
        runs.write_json(self._ended(record.number), asdict(record))

    def _ended(self, number: int) -> Path:
        return self.folder / f"job-{number:06d}.json"

    def attempts(self, number: int) -> list[Path]:
        """Return the files that a job left when it began."""
        return sorted(self.folder.glob(f"begun-{number:06d}-*.json"))

    def may_begin(self, number: int) -> bool:
        """Whether a job shall begin: it has not ended before, and nobody asks it to wait."""
        chosen = runs.read_json(self.folder / "only") or {}
        return not (self.is_halted or self._ended(number).exists()) and chosen.get("number", number) == number

    def begin(self, record: JobRecord) -> None:
        """Leave what is known of a job that begins; raises QexpError."""
        attempt = len(self.attempts(record.number)) + 1
        runs.write_json(self.folder / f"begun-{record.number:06d}-{attempt}.json", asdict(record))

    def choose(self, number: int | None) -> None:
        """Let this job alone begin; None for all; raises QexpError."""
        if number is None:
            atomic.remove(self.folder / "only")
        else:
            runs.write_json(self.folder / "only", {"number": number})

    def unfinished(self) -> list[JobRecord]:
        """Return the jobs that began and have not ended: they run, or their processes died."""
        records = _read_records(sorted(self.folder.glob("begun-*-1.json")))
        return [record for record in records if not self._ended(record.number).exists()]

    def records(self) -> list[JobRecord]:
        """Return the records of all jobs that left one, in the order of the jobs."""
        return _read_records(sorted(self.folder.glob("job-*.json")))

    def remove(self) -> None:
        """Remove the folder, which this command made, and the one around it if that is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


def _read_records(paths: Sequence[Path]) -> list[JobRecord]:
    found = []
    for path in paths:
        if data := runs.read_json(path):
            outcome, words = RunOutcome(**data.pop("outcome")), tuple(data.pop("overrides"))
            found.append(JobRecord(outcome=outcome, overrides=words, **data))
    return found


@contextmanager
def exchange(store: Path) -> Iterator[Exchange]:
    """Make the folder of a command in the run store, and name it to the processes that begin inside the block.

    Raises:
        QexpError: it cannot be made; nothing is left of it.
    """
    if (store / ".jobs").is_symlink():
        raise UsageError(f"{store / '.jobs'} is a link; qexp writes and removes in folders of the store itself")
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
        with holding(made.folder, wait=False):
            yield made
    finally:
        made.remove()


def _remove_left(folder: Path) -> None:
    """Remove the folders of commands on this machine that were killed; in another container they may be alive."""
    name = re.compile(rf"\d{{8}}-\d{{6}}-{re.escape(socket.gethostname())}-(\d+)")
    for left in folder.glob("*"):
        found = name.fullmatch(left.name)
        if found and not left.is_symlink() and not _is_alive(int(found[1])) and not is_locked(left):
            _remove_folder(left)


def _remove_folder(folder: Path) -> None:
    """Remove a folder of a command, unless there is more in it than qexp left."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if re.fullmatch(
                r"((job|begun)-\d{6}(-\d+)?\.json|only|stop|halt|table|plan\.json|lock(\.held)?|multirun\.yaml|\w+\.log)(\.tmp)?",
                entry.name,
            ):
                entry.unlink()
        folder.rmdir()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # somebody else's
    return True


def in_progress() -> Exchange:
    """Return the folder of the command that this process works for."""
    return Exchange(Path(os.environ[SCRATCH]))
