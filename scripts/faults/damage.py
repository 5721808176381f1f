"""An interrupted run whose files are cut, changed in single bits, emptied or removed before it goes on."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cases import Case, Reference, Setting, finish, prepared, wrong
from crashes import kill_at, only_run
from figures import Row
from trials import Facts, Trial, attempt, begin, check, end, no_traceback

from qexp.engine.state import Training

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


# What is done to which files: the names, and what has to come out equal; nothing stands for everything.
SINGLE: Mapping[str, tuple[Damage, tuple[str, ...], tuple[str, ...]]] = {
    "both checkpoints cut": (cut, ("last.pt", "previous.pt"), ()),
    "both checkpoints with a wrong bit": (flip, ("last.pt", "previous.pt"), ()),
    "both checkpoints removed": (remove, ("last.pt", "previous.pt"), ()),
    "last.pt empty": (empty, ("last.pt",), ()),
    "last.pt removed": (remove, ("last.pt",), ()),
    "last.pt garbage": (garbage, ("last.pt",), ()),
    "previous.pt removed": (remove, ("previous.pt",), ()),
    "best.pt cut": (cut, ("best.pt",), WEIGHTS),
    "best.pt removed": (remove, ("best.pt",), WEIGHTS),
    "metrics.jsonl cut": (cut, ("metrics.jsonl",), WEIGHTS),
    "metrics.jsonl removed": (remove, ("metrics.jsonl",), WEIGHTS),
    "events cut": (cut, ("events.out.tfevents.qexp",), WEIGHTS),
    "events removed": (remove, ("events.out.tfevents.qexp",), WEIGHTS),
    "status.json cut": (cut, ("status.json",), ()),
    "status.json with a wrong bit": (flip, ("status.json",), ()),
    "status.json removed": (remove, ("status.json",), ()),
    "env.json cut": (cut, ("env.json",), ()),
    "env.json garbage": (garbage, ("env.json",), ()),
    "env.json removed": (remove, ("env.json",), ()),
    "config.yaml cut": (cut, ("config.yaml",), ()),
    "config.yaml removed": (remove, ("config.yaml",), WEIGHTS),
    "summary.json garbage": (garbage, ("summary.json",), ()),
    "lock garbage": (garbage, ("lock",), ()),
    "temporary files left": (garbage, ("last.pt.tmp", "summary.json.tmp", "status.json.tmp", "env.json.tmp"), ()),
}


def rows(setting: Setting) -> Iterator[Row]:
    """Damage copies of interrupted runs, and let them end."""
    setting.references.prepare(CASES, setting.jobs)
    for number, case in enumerate(CASES):
        _interrupted(case, setting.folder / f"interrupted-{number}")
    kinds = {"last.pt cut": cut, "last.pt with a wrong bit": flip}
    for name, act in kinds.items():
        many = {f"{name} {number}": (act, ("last.pt",), ()) for number in range(setting.share(0.3))}
        yield _row(setting, name, many)
    repeats = max(1, setting.points // 75)
    others = {f"{name} {number}": what for name, what in SINGLE.items() for number in range(repeats)}
    yield _row(setting, f"{len(SINGLE)} other kinds of damage", others)


def _interrupted(case: Case, folder: Path) -> None:
    """Leave a run that was killed after nine steps, with the states after eight and six."""
    action = case.command()
    code = end(begin(action, folder, prepared(kill_at(Training, "count", 9))), folder).code
    found = {path.name for path in only_run(folder).iterdir()}
    check(code == -9 and {"last.pt", "previous.pt", "best.pt"} <= found, f"no interrupted run: {code}, {found}")


def _row(setting: Setting, what: str, kinds: Mapping[str, tuple[Damage, tuple[str, ...], tuple[str, ...]]]) -> Row:
    began, trials = time.monotonic(), {}
    for number, (name, kind) in enumerate(kinds.items()):
        trials[name] = _trial(setting, number % len(CASES), name, kind)
    findings = attempt(trials, setting.folder / what.replace(" ", "-"), setting.jobs)
    warned = sum(finding.facts.get("warned", False) for finding in findings)
    return Row("damage", what, len(findings), wrong(findings), f"{warned} warnings", time.monotonic() - began)


def _trial(setting: Setting, which: int, name: str, kind: tuple[Damage, tuple[str, ...], tuple[str, ...]]) -> Trial:
    damage, names, parts = kind

    def trial(folder: Path) -> Facts:
        case, draw = CASES[which], setting.draw(name)
        shutil.copytree(setting.folder / f"interrupted-{which}" / "runs", folder / "runs")
        run = only_run(folder)
        before = {path: (run / path).read_bytes() for path in names if (run / path).exists()}
        for path in names:
            damage(run / path, draw)
        try:
            return _go_on(case, folder, setting.references.of(case), parts, must_warn="checkpoint" in name)
        except Exception:
            for path, content in before.items():
                (folder / f"{path}.damaged").write_bytes((run / path).read_bytes() if (run / path).exists() else b"")
                (folder / f"{path}.whole").write_bytes(content)
            raise

    return trial


def _go_on(case: Case, folder: Path, expected: Reference, parts: tuple[str, ...], *, must_warn: bool) -> Facts:
    finish(case, folder, expected, parts=parts)
    no_traceback(folder)
    said = (folder / "log").read_text()
    warned = "warning: " in said and "damaged" in said
    return {"warned": warned}
