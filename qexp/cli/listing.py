"""A table of runs in which each can be told from the others: first what identifies a run, then what was measured."""

import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from qexp.cli.text import aligned, make_console
from qexp.runs.course_rows import epochs_of
from qexp.runs.measured_bits import MEANS
from qexp.runs.query import Entry, number
from qexp.runs.run_values import ABSENT, ListedRun, as_data, as_text, as_texts, what_varies
from qexp.runs.variation import NAMES, Variation, shown
from qexp.utils.formats import comma_separated, latex, markdown
from qexp.utils.text import NOT_CONVERGED, few, percent, plural, printable

FORMATS = ("text", "md", "csv", "json", "latex")
DIFFERS = "differs in"
LEAST_WIDTH = 16  # of the column of all that differs, on a terminal that is too narrow for a column each

CLEAR = ("dataset", "model", "quantizer", "protocol", "state")  # columns whose cells need no header

# Left out one after another where a terminal is too narrow.
_LESS_IMPORTANT = ("kB", "gap", "time", "epochs", "float", "difference")
_MEASURED = ("top1_hard", "float_top1", "difference", "quantizer_gap", "weight_kilobytes", "epochs", "time_seconds")


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, and a cell for each run.

    Attributes:
        is_numeric: whether the cells are numbers.
        may_gather: whether it may stand in one column with others on a narrow terminal.
    """

    header: str
    cells: Sequence[str]
    is_numeric: bool = False
    may_gather: bool = False

    @property
    def width(self) -> int:
        """Of its widest line."""
        return max(cell_len(line) for text in (self.header, *self.cells) for line in text.split("\n"))


@dataclass(frozen=True)
class Listing:
    """A table of runs, what they all have in common, and what is to be said below."""

    columns: Sequence[Column]
    in_common: Sequence[str]
    notes: Sequence[str]


def listing(runs: Sequence[ListedRun], *, states: bool = False) -> Listing:
    """Return the table of runs: hash, what they are and what varies among them, accuracy, and all else.

    Args:
        runs: at least one.
        states: whether the state has its column even where all runs are done.
    """
    found = what_varies(runs)
    columns, in_common = [Column("hash", [printable(run.entry.key) for run in runs])], []
    for header, cell, is_needed in (
        ("dataset", lambda run: run.entry.dataset, False),
        ("model", lambda run: run.entry.model_label, False),
        ("quantizer", _label, True),
        ("seed", lambda run: run.entry.seed, True),
        ("protocol", _protocol, False),
    ):
        cells = [printable(cell(run)) for run in runs]
        if is_needed or len(set(cells)) > 1:
            columns.append(Column(header, cells, may_gather=not is_needed))
        elif cells[0] != "-":
            in_common.append(f"protocol {cells[0]}" if header == "protocol" else cells[0])
    columns += [replace(_column(runs, key), may_gather=True) for key in found.options]
    columns += [Column(name, [cell(run.entry) for run in runs], True) for name, cell in _RESULTS.items()]
    if states or any(run.state != "done" for run in runs):
        columns.append(Column("state", [run.state for run in runs]))
    return Listing(columns, in_common, _notes(runs, found))


def _label(run: ListedRun) -> str:
    return run.entry.label + "*" * bool(run.entry.result.get("unsettled"))


def _protocol(run: ListedRun) -> str:
    return as_text(run.value("protocol"))


def _column(runs: Sequence[ListedRun], name: str) -> Column:
    values = [run.value(name) for run in runs]
    numeric = all(isinstance(value, int | float) or value is ABSENT for value in values)
    return Column(printable(name), as_texts(values), numeric)


def _notes(runs: Sequence[ListedRun], found: Variation) -> list[str]:
    notes = (
        [f"* {NOT_CONVERGED}; qexp runs show tells where"]
        if any(run.entry.result.get("unsettled") for run in runs)
        else []
    )
    for key, others in found.along.items():
        listed = f"{few(others)}; qexp runs compare A B shows all"
        notes.append(f"with {key} there differ {plural(len(others), 'option')} more: {listed}")
    return notes


# The cells of what was measured


def _number(key: str, text: Callable[[float], str]) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        value = number(entry.result, key)
        return "-" if value is None else text(value)

    return cell


def _float(entry: Entry) -> str:
    return percent(number(entry.result, "float_top1")) if "float_top1" in entry.result else "-"


def _epochs(entry: Entry) -> str:
    return epochs_of(entry.result, "/") if "epochs" in entry.result else entry.progress or "-"


_RESULTS: dict[str, Callable[[Entry], str]] = {
    "top-1": _number("top1_hard", percent),
    "float": _float,
    "difference": _number("difference", lambda points: percent(points, signed=True)),
    "gap": _number("quantizer_gap", lambda points: percent(points, signed=True)),
    "kB": _number("weight_kilobytes", lambda size: f"{size:,.1f}"),
    "epochs": _epochs,
    "time": _number("time_seconds", lambda seconds: f"{seconds:.0f} s"),
}


# As text


def as_lines(found: Listing, title: str) -> str:
    """Return a listing for a terminal, no wider than that, or for a pipe, where nothing is left out or folded."""
    width = make_console().width if sys.stdout.isatty() else None
    columns, left_out = (found.columns, []) if width is None else fitted(found.columns, width)
    head = f"{title}: {', '.join(found.in_common)}" if found.in_common else title
    notes = [*found.notes]
    if columns[-1].header == DIFFERS and (unsaid := _most_frequent(found.columns)):
        words = few([f"{name}={value}" for name, value in unsaid.items()], 6)
        notes.append(f"not said: the most frequent value, {words}")
    if left_out:
        notes.append(f"no room for {', '.join(left_out)}; --columns or a wider terminal shows them")
    rest = [line for note in notes for line in (textwrap.wrap(note, width) if width else [note])]
    return "\n".join([*(textwrap.wrap(head, width) if width else [head]), drawn(columns), *rest])


def drawn(columns: Sequence[Column]) -> str:
    """Return columns as a table; headers and cells may have several lines."""
    heads = [column.header.split("\n") for column in columns]
    most = max(map(len, heads))
    lines = list(zip(*([""] * (most - len(head)) + head for head in heads), strict=True))
    for row in zip(*(column.cells for column in columns), strict=True):
        cells = [cell.split("\n") for cell in row]
        depth = max(map(len, cells))
        lines += zip(*(cell + [""] * (depth - len(cell)) for cell in cells), strict=True)
    return aligned(lines, [column.is_numeric for column in columns], heads=most)


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Return the columns that a terminal has room for, and the headers of those that are left out.

    Headers are folded at their dots first; then what is less important goes, and at last what varies stands in one
    column with lines as they are needed; on the narrowest all stands in one beside the first, in the same order. What
    identifies a run is never cut.
    """
    kept, left_out = [*columns], []
    if _total(kept) > width:
        kept = [replace(column, header=column.header.replace(".", ".\n")) for column in kept]
    for name in _LESS_IMPORTANT:
        if _total(kept) > width and any(column.header == name for column in kept):
            kept = [column for column in kept if column.header != name]
            left_out.append(name)
    if _total(kept) > width:
        kept = _gathered(kept, width)
    return (_in_two(columns, left_out, width) if _total(kept) > width else kept), left_out


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + 3 * len(columns) + 1


def _gathered(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns with what varies in one, at the end, in lines that fit."""
    rest = [column for column in columns if not column.may_gather]
    if len(rest) == len(columns):
        return rest
    several = [column for column in columns if column.may_gather]
    room = max(width - _total(rest) - 3, LEAST_WIDTH)
    names = [column.header.replace("\n", "") for column in several]
    unsaid, cells = _most_frequent(several), []
    for values in zip(*(column.cells for column in several), strict=True):
        words = [
            f"{name}={value}"
            for name, value in zip(names, values, strict=True)
            if value != "-" and unsaid.get(name) != value
        ]
        cells.append(_in_lines(words, room) or "-")
    return [*rest, Column(DIFFERS, cells)]


def _most_frequent(columns: Sequence[Column]) -> dict[str, str]:
    """Return the name -> value of what may gather and is the same in most of the rows."""
    found = {}
    for column in columns:
        value, count = Counter(column.cells).most_common(1)[0]
        if column.may_gather and value != "-" and 2 * count > len(column.cells):
            found[column.header.replace("\n", "")] = value
    return found


def _in_two(columns: Sequence[Column], left_out: Sequence[str], width: int) -> list[Column]:
    """Return the first column, and all others in one, with the names of those that do not explain themselves."""
    first, *rest = [column for column in columns if column.header not in left_out]
    room = max(width - first.width - 7, LEAST_WIDTH)
    cells = []
    for values in zip(*(column.cells for column in rest), strict=True):
        words = [
            value if column.header in CLEAR else f"{column.header}={value}"
            for column, value in zip(rest, values, strict=True)
            if value != "-"
        ]
        cells.append(_in_lines(words, room) or "-")
    return [first, Column("run", cells)]


def _in_lines(words: Sequence[str], room: int) -> str:
    """Return words in lines of at most so many letters; a longer one goes on in a line that begins with a space."""
    inside = f"[^.,=]{{0,{room - 2}}}"
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < room:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for piece in re.findall(f"{inside}[.,=]|{inside}(?=.)|{inside}$", word):
            if lines[-1] and len(lines[-1]) + len(piece) > room:
                lines.append(" ")
            lines[-1] += piece
    return "\n".join(lines)


# In other formats


def printed(found: Listing, title: str, style: str) -> str:
    """Return a listing as Markdown or LaTeX, with its title and notes around the table."""
    headers = [column.header for column in found.columns]
    rows = list(zip(*(column.cells for column in found.columns), strict=True))
    numeric = [column.header for column in found.columns if column.is_numeric]
    head = f"{title}: {', '.join(found.in_common)}" if found.in_common else title
    if style == "latex":
        return "\n".join([f"% {head}", latex(headers, rows, numeric), *(f"% {note}" for note in found.notes)])
    return "\n\n".join([head, markdown(headers, rows, numeric), *(note.replace("*", "\\*") for note in found.notes)])


def columns_for_programs(runs: Sequence[ListedRun]) -> list[str]:
    """Return the names of what CSV and JSON have of each run: what it is, what varies, what was measured, where."""
    means = [name for name in MEANS if any(run.value(name) is not ABSENT for run in runs)]
    return ["key", "state", *NAMES, *what_varies(runs).options, *_MEASURED, *means, "run"]


def named_columns(runs: Sequence[ListedRun], names: Sequence[str]) -> Listing:
    """Return a listing of the columns that were asked for; what was measured looks as in the list of all."""
    return Listing([_named(runs, name) for name in names], [], [])


def _named(runs: Sequence[ListedRun], name: str) -> Column:
    cell = _RESULTS.get("top-1" if name == "top1" else name)
    return Column(name, [cell(run.entry) for run in runs], True) if cell else _column(runs, name)


def for_programs(headers: Sequence[str], rows: Sequence[Sequence[object]], style: str) -> str:
    """Return rows for programs, as CSV or as a list of JSON objects."""
    if style == "csv":
        texts = [[printable(shown(own)) if isinstance(own, list | bool) else own for own in row] for row in rows]
        return comma_separated(headers, texts)
    return json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=2, default=str)


def rows_of(runs: Sequence[ListedRun], names: Sequence[str]) -> list[list[object]]:
    """Return what runs have under names, for programs."""
    return [[as_data(run.value(name)) for name in names] for run in runs]
