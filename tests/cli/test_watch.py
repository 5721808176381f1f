"""`qexp runs --watch`: the rows of a store that changes, and the table on a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qexp import runs
from qexp.cli.watch import StoreWatch
from qexp.runs import query
from qexp.utils.errors import UsageError
from support.commands import Qexp
from support.processes import held_elsewhere, wait_until
from support.screens import Terminal
from support.stored_runs import make

STORE = Path("runs")


def looked(*words: str, states: tuple[str, ...] = ()) -> StoreWatch:
    found = StoreWatch(STORE, words, states)
    found.look()
    return found


def shown(watched: StoreWatch) -> list[tuple[str, str, str, str]]:
    """The hash, state, epochs and accuracy of each row."""
    return [(row.name[:8], *row.cells()[1:4]) for row in watched.rows]


def date(path: Path, time: str) -> Path:
    """Give the state of a run another time."""
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "time": time}))
    return path


@pytest.fixture
def store(workspace: Path) -> None:
    """Four runs, the last of which is said to run and does not."""
    date(make("daq-w2a2/s0-doneaaaa", epochs=20), "2026-01-03")
    date(make("ste-w2a2/s0-failaaaa", "failed", epochs=3), "2026-01-02")
    date(make("fp-w32a32/s0-diveaaaa", "diverged", epochs=1), "2026-01-04")
    date(make("dqa-w2a2/s1-goneaaaa", "running", epochs=7), "2026-01-01")


def test_what_ended_last_stands_lowest(store: None) -> None:
    watched = looked()
    assert shown(watched) == [
        ("goneaaaa", "interrupted", "7/20", ""),
        ("failaaaa", "failed", "3/20", ""),
        ("doneaaaa", "done", "20/20", "98.61 %"),
        ("diveaaaa", "diverged", "1/20", ""),
    ]
    assert watched.rows[2].name == "doneaaaa  daq W2A2 seed 0"


@pytest.mark.process
def test_a_run_is_followed_until_its_process_dies(store: None) -> None:
    """Killed with -9: nobody writes that it was interrupted."""
    path = make("br-w2a2/s0-runaaaaa", None, epochs=2)
    with held_elsewhere(path) as holder:
        watched = looked()
        assert shown(watched)[-1] == ("runaaaaa", "running", "2/20", "92.00 %")
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": 3, "epochs": 20, "time_seconds": 2.0, "hard": None}) + "\n")
        watched.poll()
        assert shown(watched)[-1] == ("runaaaaa", "running", "3/20", "92.00 %")
        assert 30 < (watched.rows[-1].seconds or 0) <= 34
        holder.kill()
        watched.poll()
        assert ("runaaaaa", "interrupted", "3/20", "") in shown(watched)


def test_a_look_finds_what_is_new_gone_or_begun_again(store: None) -> None:
    watched = looked()
    make("daq-w4a4/s0-newaaaaa")
    runs.write_status(STORE / "digits/resnet18/ste-w2a2/s0-failaaaa", "done")
    (STORE / "digits/resnet18/ste-w2a2/s0-failaaaa/summary.json").write_text("{}")
    for file in (path := STORE / "digits/resnet18/fp-w32a32/s0-diveaaaa").iterdir():
        file.unlink()
    path.rmdir()
    assert len(watched.rows) == 4
    watched.look()
    states = {key: state for key, state, _, _ in shown(watched)}
    assert states == {"goneaaaa": "interrupted", "doneaaaa": "done", "newaaaaa": "done", "failaaaa": "damaged"}


def test_filters_are_those_of_the_list(store: None) -> None:
    assert [key for key, *_ in shown(looked("seed=1"))] == ["goneaaaa"]
    assert [key for key, *_ in shown(looked("w2a2", states=("done", "failed")))] == ["failaaaa", "doneaaaa"]
    with pytest.raises(UsageError, match="no run in runs has 'sede'"):
        looked("sede=1")


def test_polling_reads_nothing_of_what_does_not_run(store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = looked()
    read: list[Path] = []
    real = query.Entry.__init__

    def note(self: query.Entry, path: Path, *more: object) -> None:
        read.append(path)
        real(self, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(query.Entry, "__init__", note)
    watched.poll()
    watched.look()
    assert read == []


def test_nothing_is_written_or_locked(store: None) -> None:
    """A lock that is taken has a file that says who holds it."""
    before = {path: path.stat().st_mtime_ns for path in STORE.rglob("*")}
    watched = looked()
    watched.poll()
    assert {path: path.stat().st_mtime_ns for path in STORE.rglob("*")} == before


def test_damaged_and_hostile_runs_are_rows(workspace: Path) -> None:
    path = make("daq-w2a2/s0-\x1b[2Jaaaa", "failed")
    (path / "config.yaml").write_text("a: [")
    (path / "status.json").write_text('{"state": "failed", "time": {"x": 1}}')
    make("odd/run", "done", summary={"top1_hard": float("nan"), "time_seconds": "long"})
    (make("ste-w2a2/s0-abcdefgh", "failed") / "metrics.jsonl").write_text('{"epoch": 1e400, "epochs": []}\n')
    cells = [row.cells() for row in looked().rows]
    assert sorted(row[1] for row in cells) == ["done", "failed", "failed"]
    assert all(letter.isprintable() for row in cells for text in row for letter in text)


def test_an_empty_store_has_no_rows(workspace: Path) -> None:
    assert looked("anything").rows == []


# The command


@pytest.mark.parametrize("option", ["--json", "--sort=seed", "--columns=seed", "--group=seed", "--format=md"])
def test_it_is_a_list_of_its_own_form(store: None, qexp: Qexp, option: str) -> None:
    result = qexp("runs", "--watch", option)
    assert (result.code, result.out) == (2, "")
    assert f"--watch does not go with {option.partition('=')[0]}" in result.err
    assert "--watch does not go with rm" in qexp("runs", "rm", "x", "--watch").err


def test_a_pipe_is_refused_in_one_line(store: None, qexp: Qexp) -> None:
    result = qexp("runs", "--watch")
    assert (result.code, result.out) == (2, "")
    assert result.errors == [
        "qexp runs: error: --watch needs a terminal that a table can change on; without it the runs are listed once"
    ]


@pytest.fixture
def terminal(store: None) -> Iterator[Terminal]:
    """The command on a terminal."""
    found = Terminal("runs", "--watch", "digits", height=12)
    yield found
    found.close()


@pytest.mark.process
def test_the_table_changes_in_place_and_ctrl_c_is_its_ordinary_end(terminal: Terminal) -> None:
    terminal.wait_for(lambda text: "4 runs: 1 interrupted, 1 failed, 1 done, 1 diverged" in text)
    path = make("br-w2a2/s0-runaaaaa", None, epochs=2)
    with held_elsewhere(path):
        text = terminal.wait_for(lambda text: "1 running" in text)
        assert "runaaaaa  br W2A2 seed 0" in text
        assert text.count("state") == 1
        assert not terminal.screen.has_cursor
    terminal.resize(40, 8)
    wait_until(lambda: "5 runs: 2 interrupted" in terminal.read().splitlines()[-1])
    terminal.type(b"\x03")
    lines = terminal.end().splitlines()
    assert (terminal.code, terminal.screen.has_cursor) == (0, True)
    assert "5 runs: 2 interrupted" in "".join(lines[-2:])
    assert all(len(line) <= 40 for line in lines[-8:])


@pytest.mark.process
def test_a_terminal_that_cannot_change_what_it_shows_is_refused(store: None) -> None:
    found = Terminal("runs", "--watch", term="dumb")
    try:
        assert "--watch needs a terminal" in found.end()
        assert found.code == 2
    finally:
        found.close()
