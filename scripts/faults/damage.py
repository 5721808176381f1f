"""An interrupted run whose files are cut, changed in single bits, emptied or removed before it goes on."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cases import Case, Setting, finish, prepared, wrong
from rows import Row
from trials import Facts, Trial, attempt, begin, check, end, no_traceback

from qexp.engine.train_state import TrainState
from support.crashes import kill_at, only_run

Damage = Callable[[Path, random.Random], None]

CASES = (Case("daq"), Case("dqa"))
WEIGHTS = ("last.pt", "summary.json")  # what has to be equal where a log or the best network was damaged


def cut(path: Path, draw: random.Random) -> None:
    """Cut a file somewhere."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(draw.randrange(size))


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def empty(path: Path, _: random.Random) -> None:
    """Empty a file."""
    path.write_bytes(b"")


def remove(path: Path, _: random.Random) -> None:
    """Remove a file."""
    path.unlink()


def garbage(path: Path, draw: random.Random) -> None:
    """Make a file of random bytes."""
    path.write_bytes(draw.randbytes(draw.choice((0, 1, 100, 5000))))


@dataclass(frozen=True)
class Kind:
    """What is done to which files, what has to come out equal (nothing: everything), and whether a warning is due."""

    act: Damage
    names: tuple[str, ...]
    parts: tuple[str, ...] = ()
    warns: bool = False


EVENTS = "events.out.tfevents.qexp"
KINDS = {
    "both checkpoints cut": Kind(cut, ("last.pt", "previous.pt"), warns=True),
    "both checkpoints with a wrong bit": Kind(flip, ("last.pt", "previous.pt")),
    "both checkpoints removed": Kind(remove, ("last.pt", "previous.pt")),
    "last.pt empty": Kind(empty, ("last.pt",), warns=True),
    "last.pt removed": Kind(remove, ("last.pt",)),
    "last.pt garbage": Kind(garbage, ("last.pt",), warns=True),
    "previous.pt cut": Kind(cut, ("previous.pt",)),
    "previous.pt removed": Kind(remove, ("previous.pt",)),
    "best.pt cut": Kind(cut, ("best.pt",), WEIGHTS),
    "best.pt removed": Kind(remove, ("best.pt",), WEIGHTS),
    "metrics.jsonl cut": Kind(cut, ("metrics.jsonl",), WEIGHTS),
    "metrics.jsonl removed": Kind(remove, ("metrics.jsonl",), WEIGHTS),
    "events cut": Kind(cut, (EVENTS,), WEIGHTS),
    "events removed": Kind(remove, (EVENTS,), WEIGHTS),
    "status.json cut": Kind(cut, ("status.json",)),
    "status.json with a wrong bit": Kind(flip, ("status.json",)),
    "status.json removed": Kind(remove, ("status.json",)),
    "env.json cut": Kind(cut, ("env.json",)),
    "env.json garbage": Kind(garbage, ("env.json",)),
    "env.json removed": Kind(remove, ("env.json",)),
    "config.yaml cut": Kind(cut, ("config.yaml",)),
    "config.yaml removed": Kind(remove, ("config.yaml",), WEIGHTS),
    "summary.json garbage": Kind(garbage, ("summary.json",)),
    "lock garbage": Kind(garbage, ("lock",)),
    "temporary files left": Kind(garbage, ("last.pt.tmp", "summary.json.tmp", "status.json.tmp", "env.json.tmp")),
}


def rows(setting: Setting) -> Iterator[Row]:
    """Damage copies of interrupted runs, and let them end."""
    setting.references.prepare(CASES, setting.jobs)
    for number, case in enumerate(CASES):
        _interrupted(case, setting.folder / f"interrupted-{number}")
    for name, kind in {
        "last.pt cut": Kind(cut, ("last.pt",), warns=True),
        "last.pt with a wrong bit": Kind(flip, ("last.pt",)),
    }.items():
        yield _row(setting, name, {f"{name} {number}": kind for number in range(setting.share(0.3))})
    repeats = max(1, setting.points // 75)
    others = {f"{name} {number}": kind for name, kind in KINDS.items() for number in range(repeats)}
    yield _row(setting, f"{len(KINDS)} other kinds of damage", others)


def _interrupted(case: Case, folder: Path) -> None:
    """Leave a run that was killed after nine steps, with the states after eight and six."""
    action = case.command()
    code = end(begin(action, folder, prepared(kill_at(TrainState, "count", 9))), folder).code
    found = {path.name for path in only_run(folder).iterdir()}
    check(code == -9 and {"last.pt", "previous.pt", "best.pt"} <= found, f"no interrupted run: {code}, {found}")


def _row(setting: Setting, what: str, kinds: Mapping[str, Kind]) -> Row:
    began, trials = time.monotonic(), {}
    for number, (name, kind) in enumerate(kinds.items()):
        trials[name] = _trial(setting, number % len(CASES), name, kind)
    findings = attempt(trials, setting.folder / what.replace(" ", "-"), setting.jobs)
    warned = sum(finding.facts.get("warned", False) for finding in findings)
    return Row("damage", what, len(findings), wrong(findings), f"{warned} with a warning", time.monotonic() - began)


def _trial(setting: Setting, which: int, name: str, kind: Kind) -> Trial:
    def trial(folder: Path) -> Facts:
        shutil.copytree(setting.folder / f"interrupted-{which}" / "runs", folder / "runs")
        run, draw = only_run(folder), setting.draw(name)
        for file in kind.names:
            kind.act(run / file, draw)
        shutil.copytree(run, folder / "damaged")  # to look at, where it was wrong
        finish(CASES[which], folder, setting.references.of(CASES[which]), parts=kind.parts)
        no_traceback(folder)
        said = (folder / "log").read_text()
        warned = "warning: " in said and "is damaged" in said
        check(warned or not kind.warns, "no warning")
        return {"warned": warned}

    return trial
