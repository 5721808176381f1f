"""How the command line shows things: one console, one table, one block of named rows."""

import sys
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import track
from rich.table import Table

from qexp.utils.text import in_lines

WIDTH_OF_A_PIPE = 160
LEAST_WIDTH = 8  # of a column that is folded
MANY = 100  # items that take long enough to show progress

T = TypeVar("T")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, and of a fixed width where the output goes to a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, width=None if stream.isatty() else WIDTH_OF_A_PIPE, markup=False, highlight=False, emoji=False
    )


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str], title: str = "") -> str:
    """Return a table as text; columns that `numeric` names are aligned to the right."""
    lines, console = [list(headers), *map(list, rows)], make_console()
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 <= console.width and not any("\n" in cell for line in lines for cell in line):
        return aligned(lines, [name in numeric for name in headers], title)
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    # What identifies a row, and numbers, are not folded where the others have room.
    whole = {name: width for name, width in zip(headers, widths, strict=True) if name in (headers[0], *numeric)}
    if sum(whole.values()) + LEAST_WIDTH * (len(headers) - len(whole)) + 3 * len(headers) + 1 > console.width:
        whole = {}
    for name in headers:
        side: Literal["left", "right"] = "right" if name in numeric else "left"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name in whole)
    for line in lines[1:]:
        table.add_row(*line)
    with console.capture() as captured:  # rich would end the program where the reader of its output has left
        console.print(table)
    return captured.get().rstrip("\n")


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool], title: str = "", heads: int = 1) -> str:
    """Return what rich makes of a table that needs no folding; rich takes seconds for thousands of rows.

    Args:
        lines: cells, those of the header first.
        right: of each column, whether it is aligned to the right.
        title: above it.
        heads: how many of the lines are header.
    """
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]

    def shown(line: Sequence[str]) -> str:
        cells = []
        for cell, width, to_the_right in zip(line, widths, right, strict=True):
            cell = cell.rstrip()
            filling = " " * (width - cell_len(cell))
            cells.append(filling + cell if to_the_right else cell + filling)
        return f"  {'   '.join(cells)}  "

    inner = sum(widths) + 3 * len(widths) - 1
    head, blank = [f"{title:<{inner + 2}}"] if title else [], " " * (inner + 2)
    above = [*head, blank, *map(shown, lines[:heads])]
    return "\n".join([*above, f" {'─' * inner} ", *map(shown, lines[heads:]), blank])


def named_rows(head: str, rows: Iterable[tuple[str, str]], width: int = 17) -> str:
    """Return a headline, and a row below it for everything that has a name; on a terminal, in lines that fit."""
    return "\n".join([folded(head, 2), *(folded(f"  {name:<{width}}{value}", width + 2) for name, value in rows)])


def folded(line: str, indent: int) -> str:
    """Return a line as it is for a pipe, and for a terminal in lines that fit, those behind the first indented."""
    return in_lines(line, make_console().width, indent) if sys.stdout.isatty() else line


def with_progress(items: Sequence[T], title: str) -> Iterable[T]:
    """Yield `items`; on a terminal a bar shows how far it is, elsewhere one line says that many will take a while."""
    if len(items) < MANY:
        return items
    if not sys.stderr.isatty():
        make_console(stderr=True).print(f"{title}: {len(items):,}")
    return with_bar(items, title)


def with_bar(items: Sequence[T], title: str) -> Iterable[T]:
    """Yield `items`; on a terminal a bar shows how far it is."""
    return track(items, title, console=make_console(stderr=True), transient=True) if sys.stderr.isatty() else items
