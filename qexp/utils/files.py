"""Reading files that others may have made: no pipes, no devices, and no more than can be meant."""

import errno
import glob
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

MOST = 16 * 2**20  # bytes of a file of text


def read_regular(path: Path, most: int = MOST) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, is a folder, a pipe or a device, or is larger than `most` bytes.
    """
    with _open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
        return file.read(most)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None where there is none or it is damaged."""
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_tail(path: Path, most: int = 2**16) -> bytes:
    """Return the last bytes of a regular file; raise OSError."""
    with _open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most)


def _open_regular(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would block
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(descriptor, "rb")


def is_file(path: str | Path) -> bool:
    """Whether a regular file is there. No where nobody can say: its name is too long, or its folder is closed to us."""
    return os.path.isfile(path)  # Path.is_file() raises then


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there, as with `is_file`."""
    return os.path.isdir(path)


def found_below(folder: Path, pattern: str) -> list[Path]:
    """Return what lies below a folder and fits a pattern; what cannot be read, or goes meanwhile, is not there."""
    return [folder / name for name in glob.glob(pattern, root_dir=folder, include_hidden=True)]


def bytes_of(path: Path) -> int:
    """Return the size of a file or of all files in a folder; links count as themselves."""
    is_folder = path.is_dir() and not path.is_symlink()
    inside = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if is_folder else [path]
    total = 0
    for file in inside:
        with suppress(OSError):  # a run that is training replaces files
            total += file.lstat().st_size
    return total
