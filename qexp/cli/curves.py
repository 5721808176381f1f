"""`qexp runs tensorboard`: the curves of runs in TensorBoard, each under a name that says what it is.

TensorBoard calls a run by its folder. So it is given a folder of links to run directories, whose names are made here.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import FrameType

from qexp import runs
from qexp.runs.query import Entry
from qexp.runs.run_names import known_options, short_names
from qexp.runs.run_values import listed_runs
from qexp.utils.errors import Interrupted, QexpError, UsageError, cannot_write
from qexp.utils.signals import SIGNALS, handling
from qexp.utils.text import few, plural, printable

EVENTS = "events.out.tfevents.*"  # in a run directory
RECORD = ".qexp-links.json"  # in a folder of links: name -> where the link leads that was made there
MOST_BYTES = 200  # of a name; file systems allow 255
END_SECONDS = 10.0  # for TensorBoard to end when it is asked to
LOOK_SECONDS = 20.0  # between looks for runs that have begun meanwhile

Select = Callable[[], tuple[list[Entry], Sequence[Entry]]]  # of query.py: those that fit, and all of the store


def show_curves(root: Path, select: Select, words: Sequence[str], links: str | None) -> int:
    """Run TensorBoard until it ends, or only make the links; return the exit code.

    Args:
        root: the run store.
        select: returns the runs that are asked for; it is called again while TensorBoard runs.
        words: for TensorBoard.
        links: the folder for the links, None for one that is removed when TensorBoard ends.

    Raises:
        UsageError: the folder for the links holds something else, or cannot be written.
    """
    if links == "":
        raise UsageError("--links: names nothing")
    entries = [entry for entry in select()[0] if has_curves(entry)]
    if not entries:
        print(f"no such runs with curves in {root}")
        return 0
    if links is not None:
        folder = Path(links)
        relink(folder, named_places(entries))
        print(f"{plural(len(entries), 'link')} in {folder}; to see the curves:")
        print(shlex.join(["tensorboard", "--logdir", str(folder), *words]))
        return 0
    with handling(_FirstSignal(), (*SIGNALS, signal.SIGHUP)), _own_folder() as folder:
        relink(folder, named_places(entries))
        print(f"{plural(len(entries), 'run')} in TensorBoard; Ctrl-C ends it", file=sys.stderr, flush=True)
        return _run([sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), *words], root, folder, select)


def has_curves(entry: Entry) -> bool:
    """Whether a run has an event file."""
    return any(entry.path.glob(EVENTS))


def named_places(entries: Sequence[Entry]) -> dict[str, Path]:
    """Return name -> run directory: what the runs are, with the hash behind it where two would be called alike."""
    listed = listed_runs(entries)
    known, labels = [known_options(run.entry, run.options) for run in listed], [run.entry.label for run in listed]
    names = [_file_name(name) for name in short_names(known, labels)]
    doubles = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    named = [f"{name} {entry.key}" if name in doubles else name for name, entry in zip(names, entries, strict=True)]
    return {name: Path(os.path.realpath(entry.path)) for name, entry in zip(named, entries, strict=True)}


def _file_name(text: str) -> str:
    """Return a name that can be one of a file, and has no slash, at which TensorBoard would cut it."""
    name = printable(text).replace("/", "_").lstrip(".")
    if len(name.encode()) <= MOST_BYTES:
        return name
    kept = name.encode()[: MOST_BYTES - 12].decode(errors="ignore")
    return f"{kept}... {sha256(name.encode()).hexdigest()[:8]}"


def relink(folder: Path, places: Mapping[str, Path]) -> None:
    """Let a folder hold these links and no others but those that were made here before, which a hidden file records.

    Raises:
        UsageError: it is no folder, or holds anything that was not made here.
        QexpError: it cannot be written.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--links {folder}: is no folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _links_made_before(folder)
        for name, entry in before.items():
            if name not in places or os.readlink(entry) != str(places[name]):
                entry.unlink()
        # Before the links: those of a command that is killed here are known.
        runs.write_json(folder / RECORD, {name: str(place) for name, place in places.items()})
        for name, place in places.items():
            with suppress(FileExistsError):
                (folder / name).symlink_to(place, target_is_directory=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _links_made_before(folder: Path) -> dict[str, Path]:
    """Return the links in a folder that are as the record there says; raise UsageError where it holds anything else."""
    record = folder / RECORD
    known = None if record.is_symlink() else runs.read_json(record)
    links, others = dict[str, Path](), list[str]()
    for entry in folder.iterdir():
        if known is not None and entry.is_symlink() and known.get(entry.name) == os.readlink(entry):
            links[entry.name] = entry
        elif known is None or entry.name not in (RECORD, f"{RECORD}.tmp"):
            others.append(printable(entry.name))
    if others:
        raise UsageError(
            f"--links {folder}: holds {few(sorted(others))}, not made by this command; name a new or an empty folder"
        )
    return links


class _FirstSignal:
    """A handler that ends the command by its first signal, and lets none after it disturb the end."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._came:
            self._came = True
            raise Interrupted(number)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a folder for links, and remove both in the end, but nothing else."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="qexp-tensorboard-"))
    except OSError as error:
        raise QexpError(f"no folder for links ({error}); --links DIR names one") from error
    try:
        yield folder
    finally:
        with suppress(OSError):
            for link in folder.iterdir():
                link.unlink()
            folder.rmdir()


def _run(command: Sequence[str], root: Path, folder: Path, select: Select) -> int:
    """Run TensorBoard until it ends, by Ctrl-C for one; runs that begin meanwhile get their links."""
    known = _event_files(root)
    process = subprocess.Popen(command)
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(LOOK_SECONDS)
            if (found := _event_files(root)) != known:
                known = found
                with suppress(QexpError):  # the store is gone, or the disk is full: what is there is shown
                    relink(folder, named_places([entry for entry in select()[0] if has_curves(entry)]))
    except Interrupted as error:
        if error.exit_code != 130:
            raise
        return 0
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _event_files(root: Path) -> set[Path]:
    return set(root.glob(f"*/*/*/*/{EVENTS}"))
