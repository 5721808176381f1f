"""A live table as text: a row for each job, as many as a terminal has room for, and counts of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from rich.cells import cell_len, get_character_cell_size
from rich.text import Text

from qexp.utils.text import printable, time_span

TO_COME, RUNNING, FLOAT_NET = "to come", "running", "float net"
UNDER_WAY = (RUNNING, FLOAT_NET)

_HEADERS = ("job", "state", "epoch", "top-1", "time")
_LESS_IMPORTANT = (4, 2, 3)  # columns left out one after another where a terminal is too narrow
_LEAST = (0, 9, 5, 7, 11)  # cells of the columns, so that they seldom move
_LEAST_NAME = 12  # cells of a name for which another column is left out
_GAP = 3
_BAR = 20  # cells
_STYLES = {
    **dict.fromkeys(("done", "skipped"), "green"),
    **dict.fromkeys(UNDER_WAY, "bold cyan"),
    **dict.fromkeys(("failed", "diverged", "damaged"), "bold red"),
    **dict.fromkeys(("locked", "interrupted"), "yellow"),
    TO_COME: "dim",
}


@dataclass
class JobRow:
    """What a live table shows of a job; None where it is not known.

    Attributes:
        name: of the job.
        state: how it ended, TO_COME, RUNNING, or FLOAT_NET while the float net that it starts from is trained; epochs,
            accuracy and seconds are those of that net then.
        epoch: how many are trained.
        epochs: how many there are to be.
        top1: hard, of the last evaluation, in percent.
        seconds: that are left while it runs, or that it took.
        step: how many are trained, and `steps` all of them; loss and speed (images per second) of the last ones.
    """

    name: str
    state: str = TO_COME
    epoch: int | None = None
    epochs: int | None = None
    top1: float | None = None
    seconds: float | None = None
    step: int = 0
    steps: int = 0
    loss: float | None = None
    speed: float | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether it is being trained."""
        return self.state in UNDER_WAY

    def cells(self) -> list[str]:
        """Return the texts of its columns."""
        epoch = "" if self.epoch is None else str(self.epoch) if self.epochs is None else f"{self.epoch}/{self.epochs}"
        top1 = "" if self.top1 is None else f"{self.top1:.2f} %"
        time = "" if self.seconds is None else time_span(self.seconds) + " left" * self.is_under_way
        return [printable(self.name), printable(self.state), epoch, top1, time]


def job_table(
    rows: Sequence[JobRow], columns: int, lines: int | None, *, noun: str, above: Sequence[Text] = (), end: str = ""
) -> Text:
    """Return the table of jobs, in lines that a terminal has room for.

    Args:
        rows: of all jobs, in their order.
        columns: of the terminal; no line is wider.
        lines: that there is room for; None for all rows.
        noun: what a row is, `job` or `run`.
        above: what stands above the last line, which has the counts.
        end: of the last line.
    """
    states = [row.state for row in rows]
    room = len(rows) if lines is None else lines - 4 - len(above)  # a blank line, header, rule, counts
    room -= 0 < room < len(rows)  # the counts of those that are not shown
    chosen = shown_rows(states, max(room, 1))
    found = [Text(), *_grid([rows[at] for at in chosen], [row.name for row in rows], columns)] if rows else []
    if hidden := [state for at, state in enumerate(states) if at not in set(chosen)]:
        found.append(Text(f"  and {counts_of(hidden)}", "dim"))
    found += [*above, Text(f"  {len(rows):,} {noun}{'s' * (len(rows) != 1)}: {counts_of(states)}{end}")]
    if lines is not None:
        del found[: max(len(found) - lines, 0)]  # of a terminal of a few lines
    for line in found:
        line.truncate(columns, overflow="ellipsis")
    return Text("\n").join(found)


def shown_rows(states: Sequence[str], room: int) -> list[int]:
    """Return which rows are shown, in their order: those under way, then what comes next and what ended last."""
    if len(states) <= room:
        return list(range(len(states)))
    under_way = [at for at, state in enumerate(states) if state in UNDER_WAY]
    coming = [at for at, state in enumerate(states) if state == TO_COME]
    ended = [at for at, state in enumerate(states) if state not in (*UNDER_WAY, TO_COME)]
    around = [at for at in chain.from_iterable(zip_longest(coming, reversed(ended))) if at is not None]
    return sorted([*under_way, *around][:room])


def counts_of(states: Sequence[str]) -> str:
    """Return `12 done, 3 failed, 1 running, 40 to come`: what ended first, what is to come last."""
    found, last = Counter(RUNNING if state == FLOAT_NET else state for state in states), (RUNNING, TO_COME)
    ordered = sorted(found.items(), key=lambda pair: last.index(pair[0]) if pair[0] in last else -1)
    return ", ".join(f"{count:,} {printable(state)}" for state, count in ordered) or "none"


def job_line(row: JobRow, is_ascii: bool) -> Text:
    """Return how far a job is in a line: what the bar of a single run shows."""
    share = min(row.step / row.steps, 1.0) if row.steps else 0.0
    filled = int(_BAR * share)
    drawn = ("#" if is_ascii else "━") * filled
    line = Text("  ").append(drawn, "cyan").append(("-" if is_ascii else "─") * (_BAR - filled), "dim")
    line.append(f" {100 * share:3.0f} %")
    if row.loss is not None:
        line.append(f"   loss {row.loss:.3f}")
    return line.append(f"   {row.speed:,.0f} images/s") if row.speed is not None else line


def cut(text: str, cells: int, mark: str) -> str:
    """Return a text that takes at most so many cells: what is too much is taken out of its middle."""
    if cell_len(text) <= cells:
        return text
    room = max(cells - cell_len(mark), 0)
    tail = _beginning(text[::-1], room // 2)[::-1]
    return _beginning(_beginning(text, room - cell_len(tail)) + mark + tail, cells)


def _beginning(text: str, cells: int) -> str:
    taken = 0
    for at, letter in enumerate(text):
        taken += get_character_cell_size(letter)
        if taken > cells:
            return text[:at]
    return text


def _grid(rows: Sequence[JobRow], names: Sequence[str], columns: int) -> list[Text]:
    """Return header, rule and rows; the column of names is as wide as the longest of all rows, where there is room."""
    table = [list(_HEADERS), *(row.cells() for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    widths = list(map(max, widths, _LEAST))
    longest, kept = max(cell_len(printable(name)) for name in names), list(range(len(_HEADERS)))
    widths[0] = max(longest, len(_HEADERS[0]))

    def left_for_names() -> int:
        return columns - 2 - sum(widths[at] + _GAP for at in kept[1:])

    for at in _LESS_IMPORTANT:
        if left_for_names() < min(widths[0], _LEAST_NAME):
            kept.remove(at)
    widths[0] = max(1, min(widths[0], left_for_names()))
    shown = [Text("  ") for _ in table]
    for at in kept:
        for line, cells, state in zip(shown, table, ["", *(row.state for row in rows)], strict=True):
            cell = cut(cells[at], widths[at], "..")
            filling = " " * (widths[at] - cell_len(cell))
            style = _STYLES.get(state, "") if at == 1 else ""
            line.append(" " * _GAP * (at > 0)).append(filling + cell if at > 1 else cell + filling, style)
    width = min(columns, 2 + sum(widths[at] for at in kept) + _GAP * (len(kept) - 1))
    return [shown[0], Text(" " + "─" * (width - 1), "dim"), *shown[1:]]
