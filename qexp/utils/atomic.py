"""Files written so that a reader, or a crash, finds the new content or the old one, and never half of either."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from qexp.utils.errors import cannot_write


def write(path: Path, content: bytes | memoryview, *, previous: Path | None = None) -> None:
    """Write `content` under a temporary name, sync it, and give it its name.

    What was in `path` before is then in `previous`, if that is given.

    A process that is killed leaves `path` as it was, or already in `previous`, with at most a file of the temporary
    name beside it; a disk that is full or broken leaves it as it was.

    Raises:
        QexpError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            _fill(temporary, content)
            if previous is not None:
                rename(path, previous.name)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def _fill(path: Path, content: bytes | memoryview) -> None:
    """Write a new file, and wait until it is on the disk."""
    with create(path) as file:
        file.write(content)
        file.flush()
        sync(file.fileno())


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files so that all of them are there in the end, or all are as they were.

    Nothing else in their folders is touched: the temporary names are hidden ones that carry the process. A process that
    is killed between two renames, which no system does as one, leaves new and old files beside each other, each whole.

    Args:
        contents: path -> content; the folders exist.

    Raises:
        QexpError: one of them cannot be written.
    """
    temporary, before = dict[Path, Path](), dict[Path, bytes | None]()
    try:
        for number, (path, content) in enumerate(contents.items()):
            temporary[path] = path.with_name(f".qexp-{os.getpid()}-{number}.tmp")
            with writing(path):
                _fill(temporary[path], content)
        for path, place in temporary.items():
            with writing(path):
                before[path] = path.read_bytes() if path.is_file() else None
                os.replace(place, path)
    except BaseException:
        for path, old in before.items():
            if not os.path.lexists(temporary[path]):  # it has taken the place of the old one
                with suppress(OSError):
                    _put_back(path, old, temporary[path])
        raise
    finally:
        for place in temporary.values():
            with suppress(OSError):
                place.unlink()
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def _put_back(path: Path, old: bytes | None, temporary: Path) -> None:
    if old is None:
        path.unlink()
        return
    temporary.write_bytes(old)
    os.replace(temporary, path)


def create(path: Path) -> BinaryIO:
    """Open a new file for writing in place of what has its name: a link there is replaced, and not followed."""
    with suppress(FileNotFoundError):
        path.unlink()
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")


def rename(path: Path, name: str) -> None:
    """Give a file another name in its folder, in place of what had that name; do nothing where there is no file."""
    with writing(path), suppress(FileNotFoundError):
        os.replace(path, path.with_name(name))


def remove(path: Path) -> None:
    """Remove a file, if there is one; raises QexpError."""
    with writing(path):
        path.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Wait until an open file is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, where its file system knows that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into the QexpError that names `path`, which is written or removed."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
