"""Lines on a console."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from qexp.utils.callback import Callback
from qexp.utils.text import in_lines, printable


class TableConsole(Console):
    """A console whose lines stand above a table of jobs: what the table shows of them needs no line of its own.

    Args:
        progress: of (run directory, epochs, steps) makes what shows a training in the table.
        options: those of a console.

    Attributes:
        head: what stands above the next line: which job it is of. It is printed once.
    """

    def __init__(self, progress: Callable[[Path, int, int], Callback], **options: Any):
        super().__init__(**options)
        self.progress = progress
        self.head: str | None = None
        self._once: set[str] = set()

    def take_head(self) -> list[str]:
        """Return the head where it has not been printed yet, as lines."""
        head, self.head = self.head, None
        return [] if head is None else head.split("\n")

    def is_new(self, line: str) -> bool:
        """Whether this has not been asked of the same line before."""
        before = len(self._once)
        self._once.add(line)
        return len(self._once) > before


def say(console: Console, line: str) -> None:
    """Print one line as it stands: paths may hold what rich takes for markup, and control characters.

    On a terminal it is folded between words, elsewhere it stays one line.
    """
    head = console.take_head() if isinstance(console, TableConsole) else []
    shown = [printable(own) for own in (*head, *line.split("\n"))]
    if console.is_terminal:
        shown = [in_lines(own, console.width, 2) for own in shown]
    console.print("\n".join(shown), highlight=False, markup=False, soft_wrap=True)


def mention(console: Console, line: str, *, once: bool = False) -> None:
    """Print one line where no table of jobs shows the same; with `once`, there too, for the first job that has it."""
    if not isinstance(console, TableConsole) or (once and console.is_new(line)):
        say(console, line)
