"""Another process that holds a run, and commands in processes of their own; forked, so that none imports torch."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.cli.main import main
from support.crashes import start_child


@dataclass
class Holder:
    """Another process, and the end of the pipe that it waits at."""

    pid: int
    end: int

    def let_go(self) -> None:
        """Let it end by itself."""
        if self.end >= 0:
            os.close(self.end)
        self.end = -1

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@contextmanager
def held_elsewhere(path: Path) -> Iterator[Holder]:
    """Another process that holds the run in `path` and says that it is running, until it is let go or dies."""
    wait, end = os.pipe()
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            with runs.claim(path):
                runs.write_status(path, "running")
                os.write(told, b"held")
                os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(wait)
    os.close(told)
    holder = Holder(pid, end)
    try:
        assert os.read(ready, 4) == b"held"
        yield holder
    finally:
        os.close(ready)
        holder.let_go()
        holder.kill()


class Command:
    """`qexp WORDS` in another process, in the working directory; what it prints goes to files beside that.

    Args:
        words: of the command.
        group: whether it leads a group of processes, as a command in a terminal does.
    """

    def __init__(self, *words: str, group: bool = False):
        folder = Path.cwd()
        name = f"command {len(list(folder.parent.glob('*.out')))}"
        self._out, self.err = folder.parent / f"{name}.out", folder.parent / f"{name}.err"
        self._out.touch()
        self.err.touch()
        self._code: int | None = None

        def own_streams() -> None:
            if group:
                os.setsid()
            for number, path in ((1, self._out), (2, self.err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)

        def action() -> int:
            sys.argv = ["qexp", *words]
            return main()

        self.pid = start_child(action, folder, own_streams)

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        if self._code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self._code = os.waitstatus_to_exitcode(found[1])
        return self._code

    def communicate(self, seconds: float = 60) -> tuple[str, str]:
        """Wait until it has ended; return what it printed on stdout and stderr."""
        wait_until(lambda: self.code is not None, seconds)
        return self._out.read_text(), self.err.read_text()

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it if it still runs."""
        if self.code is None:
            self.send(signal.SIGKILL)
            self.communicate()


def wait_until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """What `true` returns as soon as it is anything."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found
