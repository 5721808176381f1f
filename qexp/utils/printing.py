"""Lines on a console."""

from rich.console import Console

from qexp.utils.text import printable


def say(console: Console, line: str) -> None:
    """Print one line as it stands: paths may hold what rich takes for markup, and control characters."""
    shown = "\n".join(map(printable, line.split("\n")))
    console.print(shown, highlight=False, markup=False, soft_wrap=True)
