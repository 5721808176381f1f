"""One malicious or damaged input: files in a working directory and beside it, a command, and what that may change."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CANARY = "canary"  # in the working directory; whatever runs by a file of others touches it
WORK = "work"


@dataclass(frozen=True)
class Link:
    """A symbolic link, and what it says."""

    target: str


@dataclass(frozen=True)
class Same:
    """Another name of a file: a hard link to what has this path below the working directory."""

    path: str


@dataclass(frozen=True)
class Pipe:
    """A pipe that nobody writes to."""


@dataclass(frozen=True)
class Folder:
    """An empty folder."""


@dataclass(frozen=True)
class Sparse:
    """A file that begins with some bytes, and says that it is far larger."""

    head: bytes
    size: int


Content = bytes | Link | Same | Pipe | Folder | Sparse


@dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes:
        name: says what is bad, and where it came from: kind, number and seed.
        words: behind `qexp`.
        files: by their paths below the working directory; `../outside` is nobody's business.
        own: the run directories, as such paths, that the command may change; `train` may begin others.
        environment: variables of the command.
    """

    name: str
    words: tuple[str, ...]
    files: Mapping[str, Content]
    own: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)


# A module that lies where Python looks for modules: to import it, or to call anything in it, leaves the trace.
INTRUDER = f"""\
def run(*_, **__):
    open({CANARY!r}, "w").close()

run()

def __getattr__(_):
    return run
"""
SURROUNDINGS: Mapping[str, Content] = {
    "intruder.py": INTRUDER.encode(),
    "precious.txt": b"precious\n",
    "../outside/precious.txt": b"precious\n",
    "../outside/folder/precious.txt": b"precious\n",
    "../outside/link": Link("folder"),
}


def write(case: Case, folder: Path) -> Path:
    """Make the files of a case below an empty folder; return its working directory."""
    work = folder.resolve() / WORK
    work.mkdir(parents=True)
    everything = {**SURROUNDINGS, **case.files}
    for path in sorted(everything, key=lambda path: (isinstance(everything[path], Same), path)):
        _put(work, path, everything[path])
    return work


def _put(work: Path, name: str, content: Content) -> None:
    """Make one file, unless another is in its way: those of a case are drawn one by one."""
    path = Path(os.path.normpath(work / name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return
    if os.path.realpath(path.parent) != str(path.parent) or os.path.lexists(path):
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Link):
        path.symlink_to(content.target)
    elif isinstance(content, Same):
        path.hardlink_to(os.path.normpath(work / content.path))
    elif isinstance(content, Pipe):
        os.mkfifo(path)
    elif isinstance(content, Folder):
        path.mkdir()
    else:
        path.write_bytes(content.head)
        os.truncate(path, content.size)
