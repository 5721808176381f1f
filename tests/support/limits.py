"""A limit on what could hang."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TookTooLong(BaseException):
    """Not an Exception: what catches those, and OSError, shall not catch this."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TookTooLong where the block takes longer."""

    def ring(*_: object) -> None:
        raise TookTooLong(f"{seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
