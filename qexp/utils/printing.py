"""Lines on a console."""

from rich.console import Console

from qexp.utils.text import in_lines, printable


def say(console: Console, line: str) -> None:
    """Print one line as it stands: paths may hold what rich takes for markup, and control characters.

    On a terminal it is folded between words, elsewhere it stays one line.
    """
    shown = [printable(own) for own in line.split("\n")]
    if console.is_terminal:
        shown = [in_lines(own, console.width, 2) for own in shown]
    console.print("\n".join(shown), highlight=False, markup=False, soft_wrap=True)
