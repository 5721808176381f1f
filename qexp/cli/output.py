"""Standard output and error that outlast their reader: a pipe that is closed, a full disk, a terminal without letters.

A training does not end because nobody reads what it prints.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Lasting(io.TextIOBase):
    """Writes to a stream for as long as that takes text, and drops the rest.

    Attributes:
        error: why it took no more.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.error = error
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:  # at exit, Python writes what is left
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self._stream.encoding

    @property
    def buffer(self) -> Any:
        """That of the stream."""
        return self._stream.buffer


@contextmanager
def lasting_output() -> Iterator[Lasting]:
    """Make standard output and error outlast their readers inside the block; yield the first."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows the number of a letter
    made = [Lasting(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115  # closed: >&-
    sys.stdout, sys.stderr = made
    try:
        yield made[0]
    finally:
        for stream in made:
            stream.flush()
        sys.stdout, sys.stderr = before


def exit_code(output: Lasting, code: int) -> int:
    """Return the exit code of a command: 1 where what it printed was lost, unless its reader has left (| head)."""
    if output.error is None or output.error.errno == errno.EPIPE:
        return code
    print(f"qexp: error: what was printed is lost: {os.strerror(output.error.errno or errno.EIO)}", file=sys.stderr)
    return code or 1
