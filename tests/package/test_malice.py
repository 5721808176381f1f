"""300 malicious and damaged inputs out of a seed: none runs code, changes files of others, hangs, or is a traceback.

scripts/faults has another 300 for each seed.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.malice import KINDS, malicious
from support.malice_case import Case, Folder, Link, Pipe, Same, Sparse
from support.malice_checks import verdict
from support.malice_store import Store, load, make
from support.shared import made_once

pytestmark = [pytest.mark.process, pytest.mark.thorough]

SEED, CHUNK = 0, 10
PARTS = [(kind, first) for kind, (_, count) in KINDS.items() for first in range(0, count, CHUNK)]


@pytest.fixture(scope="session")
def made(together: Path) -> Store:
    """Real runs, to be damaged in copies."""
    return load(made_once(together / "malice", make))


@pytest.mark.training
@pytest.mark.parametrize(("kind", "first"), PARTS)
def test_malice_does_no_harm(made: Store, tmp_path: Path, kind: str, first: int) -> None:
    cases = malicious(kind, SEED, made, range(first, first + CHUNK))
    found = {f"{case.name} {case.words}": verdict(case, tmp_path / str(number)) for number, case in enumerate(cases)}
    harm = {name: problems for name, problems in found.items() if problems}
    assert not harm, "\n".join(f"{name}: {problems}" for name, problems in harm.items())


@pytest.mark.training
def test_the_inputs_are_300_and_a_function_of_the_seed(made: Store) -> None:
    assert sum(count for _, count in KINDS.values()) == 300
    for kind in KINDS:
        first, again, other = (list(malicious(kind, seed, made)) for seed in (SEED, SEED, SEED + 1))
        assert first == again
        same = [one for one, another in zip(first, other, strict=True) if one.files == another.files]
        assert len(same) < len(first) / 2 or kind == "words"
        assert len({(case.words, str(sorted(case.files.items()))) for case in first}) > len(first) * 0.9


# Each of the checks can fail


PRECIOUS, RUN = "../outside/precious.txt", "runs/digits/resnet18/ste-w2a2/s0-abcdefgh"
VICTIM = "runs/digits/resnet18/ste-w2a2/s1-bbbbbbbb"
FILES = {
    f"{RUN}/summary.json": b"{}",
    f"{RUN}/notes.txt": b"precious",
    f"{RUN}/lock/precious.txt": b"precious",
    f"{RUN}/last.pt": Same(PRECIOUS),
    f"{VICTIM}/summary.json": b"{}",
    "pipe": Pipe(),
    "folder": Folder(),
    "link": Link("precious.txt"),
    "large": Sparse(b"x", 2**30),
}


def act(folder: Path, action: Callable[[], object], words: Sequence[str] = ("runs", "rm"), code: int = 0) -> list[str]:
    """The verdict over a command that does something, and then ends with a code."""

    def command(_: Sequence[str]) -> int:
        action()
        return code

    return verdict(Case("acted", tuple(words), FILES, frozenset({RUN})), folder, command)


def say(text: str) -> Callable[[], object]:
    return lambda: print(text, file=sys.stderr)  # noqa: T201


RAN = {
    "a file": lambda: Path("canary").touch(),
    "a folder elsewhere": lambda: Path("../outside/canary.d").mkdir(),
    "a program": lambda: os.system("touch canary"),
    "a variable": lambda: os.environ.update(CANARY="1"),
    "a module": lambda: __import__("intruder"),
}


@pytest.mark.parametrize("action", RAN.values(), ids=RAN)
def test_code_that_ran_is_noticed(tmp_path: Path, action: Callable[[], object]) -> None:
    assert any("ran code" in problem for problem in act(tmp_path, action))


CHANGED = {
    "another file": (lambda: Path(PRECIOUS).write_text("other"), "changed 'outside/precious.txt'"),
    "the same words": (lambda: Path(PRECIOUS).write_bytes(Path(PRECIOUS).read_bytes()), "outside/precious.txt'"),
    "through a link of a run": (lambda: Path(RUN, "last.pt").write_text("x"), "changed 'outside/precious.txt'"),
    "removed": (lambda: Path("precious.txt").unlink(), "removed 'work/precious.txt'"),
    "made": (lambda: Path("../outside/new").touch(), "made 'outside/new'"),
    "made and removed": (lambda: (Path("folder/x").touch(), Path("folder/x").unlink()), "changed 'work/folder'"),
    "another run": (lambda: Path(VICTIM, "summary.json").unlink(), f"removed 'work/{VICTIM}/summary.json'"),
    "not qexp's": (lambda: Path(RUN, "notes.txt").unlink(), f"removed 'work/{RUN}/notes.txt'"),
    "a folder in a run": (lambda: Path(RUN, "lock/precious.txt").unlink(), f"removed 'work/{RUN}/lock/precious.txt'"),
    "a link": (lambda: (Path("link").unlink(), Path("link").symlink_to("x")), "changed 'work/link'"),
    "a pipe": (lambda: (Path("pipe").unlink(), Path("pipe").touch()), "changed 'work/pipe'"),
    "a large file": (lambda: os.truncate("large", 5), "changed 'work/large'"),
    "a new run": (lambda: Path("runs/a/b/c-w1a1/s0-aaaaaaaa").mkdir(parents=True), "made 'work/runs/a'"),
}


@pytest.mark.parametrize(("action", "expected"), CHANGED.values(), ids=CHANGED)
def test_what_is_not_the_commands_own_may_not_change(
    tmp_path: Path, action: Callable[[], object], expected: str
) -> None:
    assert any(expected in problem for problem in act(tmp_path, action))


def test_its_own_runs_may_change_and_training_may_begin_others(tmp_path: Path) -> None:
    assert act(tmp_path / "1", lambda: Path(RUN, "summary.json").unlink()) == []
    assert act(tmp_path / "2", lambda: Path(RUN, "last.pt").unlink()) == []
    new = Path("runs/a/b/c-w1a1/s0-aaaaaaaa")
    assert act(tmp_path / "3", lambda: (new.mkdir(parents=True), (new / "lock").touch()), ("train",)) == []
    assert act(tmp_path / "4", lambda: new.mkdir(parents=True), ("train", "--dry-run")) != []


def test_what_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It, and what it started; nothing waits for memory that is not there either."""
    monkeypatch.setattr("support.malice_checks.LONGEST_SECONDS", 1.0)
    began = time.monotonic()
    assert "takes longer than 1 s" in act(tmp_path / "1", lambda: time.sleep(60))[0]
    assert "takes longer" in act(tmp_path / "2", lambda: (os.system("sleep 2; touch canary &"), time.sleep(60)))[0]
    assert time.monotonic() - began < 30
    assert any("MemoryError" in problem for problem in act(tmp_path / "3", lambda: bytearray(10**11)))


def test_what_works_too_long_shows_however_busy_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own work counts, and that of what it started; waiting does not."""
    monkeypatch.setattr("support.malice_checks.MOST_WORK", 0.5)
    busy = "import time\nwhile time.process_time() < 1: pass"
    assert act(tmp_path / "1", lambda: exec(busy)) == ["takes 1 s of processor time"]
    assert act(tmp_path / "2", lambda: os.system(f"{sys.executable} -c '{busy}'")) == ["takes 1 s of processor time"]
    assert act(tmp_path / "3", lambda: time.sleep(1)) == []


SAID = {
    "an error of Python's": (lambda: [][1], 0, "IndexError"),
    "a crash": (lambda: os.kill(os.getpid(), 11), 0, "ends with -11"),
    "an unknown code": (lambda: None, 5, "ends with 5"),
    "no word": (lambda: None, 2, "exit code 2, and says []"),
    "no line of ours": (say("qexp: no\nsomething else"), 1, "['something else']"),
    "an escape": (say("qexp: \x1b[31m"), 1, "prints '\\x1b'"),
    "a carriage return": (say("qexp: \r"), 0, "prints '\\r'"),
    "on standard output": (lambda: print("\x9b31m"), 0, "prints '\\x9b'"),  # noqa: T201
    "bytes that are no text": (lambda: os.write(1, b"\xff\n"), 0, "prints '\\udcff'"),
}


@pytest.mark.parametrize(("action", "code", "expected"), SAID.values(), ids=SAID)
def test_what_is_no_clean_end_is_noticed(
    tmp_path: Path, action: Callable[[], object], code: int, expected: str
) -> None:
    assert any(expected in problem for problem in act(tmp_path, action, code=code))


def test_a_clean_end_is_none(tmp_path: Path) -> None:
    assert act(tmp_path / "1", lambda: print("fine\tübrigens")) == []  # noqa: T201
    assert act(tmp_path / "2", say("qexp runs: error: no"), code=2) == []
