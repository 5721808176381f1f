"""Signals that ask a run to stop, and a file that asks the runs of a sweep in other processes."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from qexp.utils.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Slurm can send the last one before its time limit
_LOOK_SECONDS = 1.0  # between looks for the file
_listeners: list[Callable[[str], None]] = []


class StopRequest:
    """What a signal asks of a run: to stop as soon as it can go on later.

    Args:
        file: whose existence asks for the same; it holds the number of a signal.

    Attributes:
        number: of the signal that came, None for none.
    """

    def __init__(self, file: Path | None = None):
        self.number: int | None = None
        self._file, self._looked = file, 0.0
        self._defers = False

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for."""
        if self.number is None and self._file and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self.number = stop_number(self._file)
        if self.number is not None:
            raise Interrupted(self.number)

    def pausing(self, batches: Iterable) -> Iterator:
        """Yield `batches`, with a check before each."""
        for batch in batches:
            self.check()
            yield batch

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Heed signals inside the block; those that this process ignores, and threads, are left alone."""
        with handling(self._on_signal):
            yield

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only take note of signals inside the block, for `check`; a second Ctrl-C does not wait."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._defers:
            self.number = number
            raise Interrupted(number)
        if self.number is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number = number
        again = "; Ctrl-C again does not wait for that" if number == signal.SIGINT else ""
        say_on_stderr(f"\n{signal.Signals(number).name}: stopping after this step, and saving the state{again}\n")


@contextmanager
def handling(
    handler: Callable[[int, FrameType | None], None], heeded: Iterable[signal.Signals] = SIGNALS
) -> Iterator[None]:
    """Let `handler` have the signals inside the block, but for those that this process ignores."""
    previous = {}
    try:
        for number in heeded:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in the background of a shell
                previous[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def say_on_stderr(text: str) -> None:
    """Write to stderr, also where a signal came in the middle of writing there; or tell it whoever listens."""
    if _listeners:
        _listeners[-1](text)
        return
    with suppress(OSError):
        os.write(2, text.encode())


@contextmanager
def told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Let `listener` have inside the block what signals say: it shows it where stderr is not to be written to."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def ask_to_stop(file: Path, number: int) -> None:
    """Ask all runs that watch `file` to stop, in the name of a signal."""
    file.write_text(str(number))


def stop_number(file: Path) -> int | None:
    """Return the signal that `file` asks to stop in the name of, None where there is no such file."""
    try:
        text = file.read_text()
    except OSError:
        return None
    return int(text) if text.isdigit() else int(signal.SIGTERM)
