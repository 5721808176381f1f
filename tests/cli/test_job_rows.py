"""A live table as text: what it shows of jobs in so many columns and lines."""

import pytest
from rich.cells import cell_len
from rich.text import Text

from qexp.cli.job_rows import TO_COME, JobRow, counts_of, cut, job_line, job_table, shown_rows

ROWS = [
    JobRow("daq W2A2 seed 0", "done", 20, 20, 98.333, 36.0),
    JobRow("daq W2A2 seed 1", "failed", 3, 20, 71.0),
    JobRow("ste W2A2 seed 0", "running", 7, 20, 91.02, 1380.0),
    JobRow("ste W2A2 seed 1"),
]


def text(rows: list[JobRow], columns: int = 80, lines: int | None = None, **options: object) -> list[str]:
    return job_table(rows, columns, lines, noun="job", **options).plain.split("\n")  # type: ignore[arg-type]


def test_a_row_has_name_state_epochs_accuracy_and_time() -> None:
    assert text(ROWS, end="; about 2 min left", above=[Text("  bar")]) == [
        "",
        "  job               state       epoch     top-1          time",
        f" {60 * chr(0x2500)}",
        "  daq W2A2 seed 0   done        20/20   98.33 %          36 s",
        "  daq W2A2 seed 1   failed       3/20   71.00 %              ",
        "  ste W2A2 seed 0   running      7/20   91.02 %   23 min left",
        "  ste W2A2 seed 1   to come                                  ",
        "  bar",
        "  4 jobs: 1 done, 1 failed, 1 running, 1 to come; about 2 min left",
    ]


def test_a_float_net_that_is_trained_first_is_named_and_counts_as_running() -> None:
    found = text([JobRow("daq", "float net", 2, 5, None, 8.0)])
    assert found[3].split() == ["daq", "float", "net", "2/5", "8", "s", "left"]
    assert found[-1] == "  1 job: 1 running"


def test_counts_begin_with_what_ended_and_end_with_what_is_to_come() -> None:
    states = [TO_COME, "done", "float net", "done", "running", "diverged"]
    assert counts_of(states) == "2 done, 1 diverged, 2 running, 1 to come"
    assert counts_of([]) == "none"


def test_rows_under_way_come_first_then_what_is_next_and_what_ended_last() -> None:
    states = ["done"] * 5 + ["running"] + [TO_COME] * 5
    assert shown_rows(states, 11) == list(range(11))
    assert shown_rows(states, 1) == [5]
    assert shown_rows(states, 2) == [5, 6]
    assert shown_rows(states, 5) == [3, 4, 5, 6, 7]
    assert shown_rows(["running"] * 9, 3) == [0, 1, 2]
    assert shown_rows(["done"] * 9, 3) == [6, 7, 8]


def test_what_a_terminal_has_no_room_for_is_counted() -> None:
    rows = [JobRow(f"job {at}", "done" if at < 40 else TO_COME) for at in range(100)]
    rows[40].state = "running"
    rows[7].state = "failed"
    found = text(rows, lines=10)
    assert len(found) == 10
    assert [line.split()[1] for line in found[3:8]] == ["38", "39", "40", "41", "42"]
    assert found[8:] == [
        "  and 37 done, 1 failed, 57 to come",
        "  100 jobs: 39 done, 1 failed, 1 running, 59 to come",
    ]


@pytest.mark.parametrize("lines", [*range(1, 12), 24])
@pytest.mark.parametrize("columns", [1, 8, 20, 33, 47, 60, 80, 200])
def test_no_terminal_is_too_small(columns: int, lines: int) -> None:
    rows = [*ROWS, JobRow("a" * 300, "interrupted"), JobRow("日本語 " * 40, "diverged")]
    found = text(rows, columns, lines, above=[job_line(ROWS[2], is_ascii=False)])
    assert len(found) <= lines
    assert max(map(cell_len, found)) <= columns
    assert not text([], columns, lines)[-1].endswith("\n")


@pytest.mark.parametrize(
    ("columns", "headers"),
    [(80, "job state epoch top-1 time"), (48, "job state epoch top-1"), (36, "job state top-1"), (26, "job state")],
)
def test_a_narrow_terminal_shows_what_matters_most(columns: int, headers: str) -> None:
    found = text(ROWS, columns)
    assert found[1].split() == headers.split()
    assert "running" in "\n".join(found)


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert cut("daq W2A2 batch_size=128 lr=0.01 seed 3", 24, "..") == "daq W2A2 ba..0.01 seed 3"
    assert cut("short", 5, "..") == "short"
    assert [cut("longer", count, "..") for count in (0, 1, 2, 3, 4)] == ["", ".", "..", "l..", "l..r"]
    assert cell_len(cut("日本語日本語", 7, "..")) <= 7


def test_what_others_wrote_stays_on_its_line_and_is_no_markup() -> None:
    (row,) = text([JobRow("[bold]x[/bold]\x1b[2J\ny", "do\tne")])[3:4]
    assert row.startswith("  [bold]x[/bold]?[2J?y   do?ne")


def test_a_job_under_way_has_the_bar_of_a_single_run() -> None:
    row = JobRow("daq", "running", step=50, steps=200, loss=0.1234, speed=4210.4)
    assert job_line(row, is_ascii=False).plain == "  ━━━━━───────────────  25 %   loss 0.123   4,210 images/s"
    assert job_line(JobRow("daq", steps=10), is_ascii=True).plain == "  --------------------   0 %"
