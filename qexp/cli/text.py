"""How the command line shows things: one console, one table, one block of named rows."""

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_OF_A_PIPE = 160


def make_console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, and of a fixed width where the output goes to a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, width=None if stream.isatty() else WIDTH_OF_A_PIPE, markup=False, highlight=False, emoji=False
    )


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str], title: str = "") -> str:
    """Return a table as text; columns that `numeric` names are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for name in headers:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = make_console()
    with console.capture() as captured:  # rich would end the program where the reader of its output has left
        console.print(table)
    return captured.get().rstrip("\n")


def named_rows(head: str, rows: Iterable[tuple[str, str]], width: int = 17) -> str:
    """Return a headline, and a row below it for everything that has a name."""
    return "\n".join([head, *(f"  {name:<{width}}{value}" for name, value in rows)])
