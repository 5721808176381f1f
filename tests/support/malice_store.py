"""A store with runs as training leaves them: made once, and then damaged in many ways."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qexp.config.compose import composing
from qexp.config.places import conf_dir
from qexp.engine.train_state import TrainState
from qexp.tables import OWN, TableRequest, join
from support.commands import TINY
from support.crashes import command, kill_at, run_child
from support.short_runs import SHORT

# What keeps a run that begins all the same small, whatever a file says.
SMALL = (
    *(*TINY, "quantizer=ste", "threads=1", "workers=0", "compile=false", "runs_dir=runs", "recipe.epochs=1"),
    *("recipe.batch_size=32", "tracking.tensorboard=false"),
)
QUIET = ("tracking.tensorboard=false", "threads=1")
DONE = (*TINY, *QUIET, "recipe.epochs=1", "recipe.batch_size=32", "quantizer=ste", "bits=2")  # from a float net
STOPPED = (*SHORT, "threads=1", "quantizer=daq", "bits=2", "init=scratch")
TABLE, ROWS = "dqa/1", "c10_fp,c10_minmax*"


@dataclass(frozen=True)
class Store:
    """Files by their paths below the working directory, and which runs they make.

    Attributes:
        files: of the runs, and, below `published`, of the rows of a table.
        words: run directory -> words of `qexp train` that it belongs to.
        parent: the run directory of the float net that the finished run started from.
        rows: run directories of the rows of TABLE, which are not there.
    """

    files: Mapping[str, bytes]
    words: Mapping[str, tuple[str, ...]]
    parent: str
    rows: tuple[str, ...]

    @property
    def done(self) -> str:
        """The directory of the finished run."""
        return next(run for run in self.words if "/ste-" in run)

    @property
    def stopped(self) -> str:
        """The directory of the run that was killed."""
        return next(run for run in self.words if "/daq-" in run)

    @property
    def runs(self) -> tuple[str, ...]:
        """All run directories."""
        return (self.done, self.stopped, self.parent)

    def of(self, run: str) -> dict[str, bytes]:
        """Name -> content of the files of a run."""
        return {path.rpartition("/")[2]: content for path, content in self.files.items() if path.startswith(f"{run}/")}


def make(folder: Path) -> None:
    """Train the runs of a store in a folder, each in a process of its own."""
    for words, prepare, code in ((DONE, None, 0), (STOPPED, kill_at(TrainState, "count", 9), -9)):
        ended = run_child(command(("train", *words)), folder, prepare or (lambda: None))
        assert ended == code, (folder / "log").read_text()
    with composing() as composer:
        joined = join(conf_dir() / "paper", TABLE, TableRequest(ROWS, (0,), OWN, ()), composer)
    rows = [str(run.path) for line in joined.lines for run in line.runs]
    (folder / "rows.json").write_text(json.dumps(rows))


def load(folder: Path) -> Store:
    """Read what `make` made."""
    paths = sorted(path for path in (folder / "runs").rglob("*") if path.is_file())
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    runs = {str(Path(path).parent) for path in files}
    done, stopped, parent = (next(run for run in runs if re.search(f"/{name}-", run)) for name in ("ste", "daq", "fp"))
    words = {done: ("train", *DONE), stopped: ("train", *STOPPED)}
    return Store(files, words, parent, tuple(json.loads((folder / "rows.json").read_text())))
