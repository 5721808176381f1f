"""Tables: those that need no folding look as rich makes them, in a hundredth of its time."""

import random
import re
import sys

import pytest
from rich import box
from rich.table import Table

from qexp.cli import text as module
from qexp.cli.text import MANY, grid, make_console, named_rows, with_progress

CELLS = ("", "x", "12.5", "日本語", "a b  c", " lead", "trail ", "[b]x[/b]", ":smile:", "-")


def by_rich(headers: list[str], rows: list[list[str]], numeric: list[str], title: str) -> str:
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for name in headers:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = make_console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


@pytest.mark.parametrize("seed", range(20))
def test_a_table_that_fits_is_as_rich_makes_it(seed: int) -> None:
    draw = random.Random(seed)
    headers = [f"{draw.choice(['a', 'top-1', 'état', '日本'])}{number}" for number in range(draw.randint(1, 6))]
    rows = [[draw.choice(CELLS) for _ in headers] for _ in range(draw.randint(0, 5))]
    numeric = [name for name in headers if draw.random() < 0.5]
    title = draw.choice(["", "2 runs"]) if len(headers) > 1 else ""
    assert grid(headers, rows, numeric, title) == by_rich(headers, rows, numeric, title)


def test_a_table_that_does_not_fit_is_folded_by_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDTH_OF_A_PIPE", 20)
    headers, rows = ["name", "value"], [["abcdefghijklmnopqrst", "12345"]]
    shown = grid(headers, rows, ["value"])
    assert shown == by_rich(headers, rows, ["value"], "")
    assert all(len(line) <= 20 for line in shown.split("\n"))


def test_a_table_that_does_not_fit_folds_neither_what_identifies_a_row_nor_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "48")
    monkeypatch.setenv("TERM", "xterm")
    shown = grid(["row", "what", "value"], [["c10_minmax2_br_fp", "a long tale of a row", "12,345.6"]], ["value"])
    shown = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert max(map(len, shown.split("\n"))) <= 48
    assert "c10_minmax2_br_fp" in shown
    assert "12,345.6" in shown


def test_rows_are_folded_for_a_terminal_between_words_and_not_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"runs/{'x' * 50}"
    rows = [("top-1", "97.78 %  hard, last epoch, 360 test images"), ("run", path)]
    assert named_rows("a head", rows, 8).splitlines() == ["a head", f"  top-1   {rows[0][1]}", f"  run     {path}"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    assert named_rows("a head", rows, 8).splitlines() == [
        "a head",
        "  top-1   97.78 %  hard, last epoch, 360",
        "          test images",
        "  run",
        f"          {path}",
    ]


@pytest.mark.parametrize(
    ("count", "said"), [(MANY - 1, ""), (MANY, "reading jobs: 100\n"), (1234, "reading jobs: 1,234\n")]
)
def test_many_items_are_announced(capsys: pytest.CaptureFixture[str], count: int, said: str) -> None:
    assert list(with_progress(range(count), "reading jobs")) == list(range(count))
    assert capsys.readouterr().err == said


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(with_progress(range(MANY), "reading jobs")) == list(range(MANY))
    assert "reading jobs" in capsys.readouterr().err
