"""A table that stays at the bottom of a terminal and changes; what anybody prints meanwhile stands above it."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from threading import Event, Thread
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from qexp.cli.output import Lasting
from qexp.utils import signals

Frame = Callable[[int, int | None], Text]

_TICK_SECONDS = 0.25


def is_live(*, stderr: bool = False) -> bool:
    """Whether standard output, or error, is a terminal that a table can change on: no pipe, no TERM=dumb."""
    return (sys.stderr if stderr else sys.stdout).isatty() and Console(stderr=stderr).is_interactive


class _Above(Lasting):
    """Standard output or error while there is a table: whole lines, printed above it."""

    def __init__(self, stream: TextIO, console: Console):
        super().__init__(stream)
        self._console, self._owner, self._rest = console, os.getpid(), ""

    @property
    def rich_proxied_file(self) -> TextIO:
        """What rich writes to, in place of this."""
        return self._stream

    def write(self, text: str) -> int:
        if os.getpid() != self._owner:  # forked, such as a process that decodes images: it has no table
            return super().write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:  # of one that was written over itself, what was seen last
            self._console.print(Text(line.rstrip("\r").rpartition("\r")[2]), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        if os.getpid() != self._owner:
            super().flush()

    def let_go(self) -> None:
        """Write what did not end in a line."""
        if self._rest:
            super().write(self._rest)
            self._rest = ""


@contextmanager
def live_table(console: Console, frame: Frame, poll: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Show a table inside the block, which changes four times a second; it stays on the screen if the block raises.

    Args:
        console: what prints above it, on a terminal.
        frame: returns the table for so many columns and lines; None for all that it has, at the end.
        poll: looks for what is new before the table is shown again.
    """
    said: deque[str] = deque()  # by signals, which come in the middle of anything
    ended = Event()

    def shown() -> Text:
        return frame(console.width, None if ended.is_set() else max(console.height - 1, 1))

    def drain() -> None:
        while said:
            console.print(Text(said.popleft()))

    def tick() -> None:
        while not ended.wait(_TICK_SECONDS):
            with suppress(OSError):  # of a store that cannot be read for a while
                poll()
            drain()
            live.refresh()

    live = Live(console=console, get_renderable=shown, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    ticker = Thread(target=tick, daemon=True)
    with ExitStack() as closing:
        closing.enter_context(_printed_above(console, said))
        closing.callback(live.stop)
        closing.callback(drain)
        live.start(refresh=True)
        ticker.start()
        live.transient = False
        try:
            yield
            live.transient = True
        finally:
            ended.set()
            ticker.join()


@contextmanager
def _printed_above(console: Console, said: deque[str]) -> Iterator[None]:
    """Let standard output and error print above the table inside the block, where they are that terminal."""
    with ExitStack() as closing:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream.isatty():
                above = _Above(stream, console)
                closing.callback(above.let_go)
                closing.enter_context(redirect(above))
        if sys.stderr.isatty():
            closing.enter_context(signals.told_to(lambda text: said.append(text.strip("\n"))))
        yield
