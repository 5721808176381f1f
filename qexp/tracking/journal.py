"""A file that only grows, and is cut back to where a checkpoint knows it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from qexp.utils import atomic


class Journal:
    """Appends to a file.

    Args:
        path: of the file.
        at: its length in bytes at the checkpoint that a run resumes from; 0 empties it. What lies behind was written
            after that checkpoint, and is written again.

    Attributes:
        is_new: it begins empty, also where it is shorter than it has to be and its beginning is lost.

    Raises:
        QexpError: it cannot be written.
    """

    def __init__(self, path: Path, at: int = 0):
        self.path = path
        with atomic.writing(path):
            self.is_new = at == 0 or not path.exists() or path.stat().st_size < at
            self._file = atomic.create(path) if self.is_new else _cut(path, at)

    def write(self, content: bytes) -> None:
        """Append; raises QexpError."""
        with atomic.writing(self.path):
            self._file.write(content)
            self._file.flush()

    def position(self) -> dict[str, int]:
        """Wait until all is on the disk; return file name -> bytes."""
        with atomic.writing(self.path):
            os.fsync(self._file.fileno())
            return {self.path.name: self._file.tell()}

    def close(self) -> None:
        """Close the file; what did not fit on a full disk has been reported."""
        with suppress(OSError):
            self._file.close()


def _cut(path: Path, at: int) -> BinaryIO:
    """Return a file open for writing at `at`, where it ends; one with other names, or a link, is copied before."""
    if path.is_symlink() or path.stat().st_nlink > 1:  # what others see under another name stays as it is
        with path.open("rb") as file:
            content = file.read(at)
        atomic.write(path, content)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.ftruncate(descriptor, at)
    os.lseek(descriptor, at, os.SEEK_SET)
    return open(descriptor, "r+b")
