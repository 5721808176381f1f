"""The lock of a run: it dies with its process, where the file system can do that.

`lock` is locked by flock. Some network file systems have no flock: there a file `lock.held` says who trains the run. It
is taken over where its process is sure to have ended; where that cannot be known, the user is told what to look at.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Literal

from filelock import FileLock, Timeout

from qexp.utils.errors import QexpError
from qexp.utils.files import read_regular
from qexp.utils.text import one_line

LOCK, MARKER = "lock", "lock.held"

_NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_PATIENCE_SECONDS = 0.5  # a look at the state of a run holds its lock for a moment
_LOOK_SECONDS = 0.1
_MOST_PID = 2**31 - 1
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


class RunLocked(QexpError):
    """Another process holds the run's lock."""


@contextmanager
def holding(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a run directory, which has to exist.

    Args:
        folder: the run directory.
        wait: whether to wait for another holder.

    Raises:
        RunLocked: somebody else holds it and `wait` is false.
        OSError: it cannot be locked.
    """
    _make(folder / LOCK)
    with _marker(folder, wait=wait) if _flock(folder) == "none" else _file_lock(folder, wait=wait):
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a run directory; raises OSError."""
    found = _flock(folder)
    return found == "held" or (found == "none" and (folder / MARKER).exists() and not _has_ended(folder / MARKER))


def _flock(folder: Path) -> Literal["free", "held", "none"]:
    """Return whether somebody holds the flock of a folder; `none` where its file system has none."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "free"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return "none"
        raise
    finally:
        os.close(descriptor)
    return "free"


@contextmanager
def _file_lock(folder: Path, *, wait: bool) -> Iterator[None]:
    lock = FileLock(folder / LOCK, timeout=-1 if wait else _PATIENCE_SECONDS, poll_interval=_LOOK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise RunLocked(f"locked by {_said(folder / LOCK)}: {folder}") from None
    try:
        with suppress(OSError):  # a full disk: it is held all the same
            _say_who_holds(folder / LOCK)
        yield
    finally:
        lock.release()


@contextmanager
def _marker(folder: Path, *, wait: bool) -> Iterator[None]:
    marker, own = folder / MARKER, f"pid {os.getpid()} on {socket.gethostname()}\n{_here()}\n"
    while not _make(marker, own):
        if _has_ended(marker):
            _take_away(marker)
        elif wait:
            sleep(_LOOK_SECONDS)
        else:
            advice = f"locks do not work in this folder; if that process has ended, remove {marker}"
            raise RunLocked(f"locked by {_said(marker)}: {folder} ({advice})")
    try:
        yield
    finally:
        with suppress(OSError, UnicodeDecodeError):
            if read_regular(marker, 1000).decode() == own:  # else the run was removed, and another starter came
                marker.unlink()


def _make(path: Path, content: str = "") -> bool:
    """Make a file; return False where there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "w") as file:
        file.write(content)
    return True


def _here() -> str:
    """Return what tells where a number of a process means something: this start of this machine, this container."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)}"
    except OSError:
        return "unknown"


def _has_ended(marker: Path) -> bool:
    """Whether the process that made a marker is sure to have ended."""
    try:
        said, where = read_regular(marker, 1000).decode().splitlines()
        pid = int(said.split()[1])
    except (OSError, ValueError, IndexError):
        return False
    if where != _here() or where == "unknown" or not 0 < pid <= _MOST_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        pass
    return False


def _take_away(marker: Path) -> None:
    """Remove the marker of a process that has ended, unless another starter has just put its own in that place."""
    aside = marker.with_name(f"{MARKER}.{os.getpid()}")
    with suppress(OSError):
        os.rename(marker, aside)
        if not _has_ended(aside):
            _put_back(aside, marker)
        aside.unlink(missing_ok=True)


def _put_back(aside: Path, marker: Path) -> None:
    """Give a marker its name again, unless there is a new one."""
    try:
        os.link(aside, marker)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.rename(aside, marker)


def _say_who_holds(lock: Path) -> None:
    descriptor = os.open(lock, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "w") as file:
        if os.fstat(descriptor).st_nlink == 1:  # else it is somebody's file as well
            file.truncate()
            file.write(f"pid {os.getpid()} on {socket.gethostname()}")


def _said(lock: Path) -> str:
    """Return who holds a lock, as its file tells."""
    try:
        lines = read_regular(lock, 1000).decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return one_line(lines[0]) if lines else "an unknown process"
