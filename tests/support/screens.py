"""A terminal: a command that runs on one, and what stands on its screen."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.cells import cell_len

from support.crashes import Action, command, start_child

_ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")

_BEGUN = re.compile(r"\x1b(\[[?0-9;]*)?")


class Screen:
    """What a terminal shows of what is written to it, with the lines that have scrolled by.

    Args:
        columns: of it.
        height: in lines.
    """

    def __init__(self, columns: int, height: int):
        self.columns, self.height = columns, height
        self.lines: list[str] = [""]  # all that ever stood there, the screen at the end
        self.row = self.column = 0
        self.has_cursor, self._rest = True, ""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    def feed(self, text: str) -> None:
        """Show what is written; the beginning of an escape sequence waits for its end."""
        text, at = self._rest + text, 0
        self._rest = ""
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif found := _ESCAPE.match(text, at):
                self._obey(found[1], found[2])
                at = found.end()
            elif _BEGUN.fullmatch(text, at):
                self._rest, at = text[at:], len(text)
            else:
                raise AssertionError(f"an escape sequence that nobody expects: {text[at : at + 12]!r}")

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            if self.column + cell_len(letter) > self.columns:
                self._put("\r")
                self._put("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def _obey(self, numbers: str, letter: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if letter == "A":
            self.row = max(self.row - count, len(self.lines) - self.height, 0)
        elif letter == "K" and numbers == "2":
            self.lines[self.row] = ""
        elif (numbers, letter) in (("?25", "l"), ("?25", "h")):
            self.has_cursor = letter == "h"
        elif letter != "m":
            raise AssertionError(f"an escape sequence that nobody expects: {numbers}{letter}")


class Terminal:
    """`qexp WORDS` on a terminal of its own, in the working directory.

    Args:
        words: of the command.
        columns: of the terminal.
        height: of it, in lines.
        term: what kind of terminal it says that it is.
        action: what is carried out in place of the command.
    """

    def __init__(
        self,
        *words: str,
        columns: int = 80,
        height: int = 24,
        term: str = "xterm-256color",
        action: Action | None = None,
    ):
        self.screen, self.written = Screen(columns, height), ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._master, slave = pty.openpty()
        self.resize(columns, height)
        self._code: int | None = None

        def on_the_terminal() -> None:
            os.close(self._master)  # else the terminal would never be gone
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for number in (0, 1, 2):
                os.dup2(slave, number)
            self._kept = sys.stdout, sys.stderr  # which would close these two descriptors
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            os.environ["TERM"] = term

        self.pid = start_child(action or command(words), Path.cwd(), on_the_terminal)
        os.close(slave)

    def resize(self, columns: int, height: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))
        self.screen.columns, self.screen.height = columns, height

    def type(self, keys: bytes) -> None:
        """Press keys: b"\\x03" is Ctrl-C."""
        os.write(self._master, keys)

    def read(self, seconds: float = 0.05) -> str:
        """Return all that stands there, after what comes within some seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self._master], [], [], left)[0]:
            try:
                found = os.read(self._master, 65536)
            except OSError:  # nobody writes any more
                break
            if not found:
                break
            text = self._decode(found)
            self.written += text
            self.screen.feed(text)
        return self.screen.text

    def wait_for(self, true: Callable[[str], object], seconds: float = 90) -> str:
        """Wait until that is true of all that stands there; return it."""
        end = time.monotonic() + seconds
        while not true(self.read()):
            assert time.monotonic() < end, f"waited too long:\n{self.screen.text}"
            assert self.code is None or true(self.read(0.5)), f"it has ended:\n{self.screen.text}"
        return self.screen.text

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        if self._code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self._code = os.waitstatus_to_exitcode(found[1])
        return self._code

    def end(self, seconds: float = 120) -> str:
        """Wait until it has ended; return all that stands there."""
        end = time.monotonic() + seconds
        while self.code is None:
            assert time.monotonic() < end, f"waited too long:\n{self.read()}"
            self.read()
        return self.read(0.2)

    def close(self) -> None:
        """Kill it if it still runs, and close the terminal."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with suppress(OSError):
            os.close(self._master)
