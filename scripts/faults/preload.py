"""What a process calls of the system to change files, listed; and its death at one of these calls.

preload.c stands in front of the C library, in this process and all that it forks, so it has to be there when the
process starts. It does nothing before a child arms it. Files of Python pass through it, and those are all that qexp
writes: torch.save into memory, TensorBoard's records into a journal. torch.save with a path passes as well (the C++
library calls write and writev); what C code does with fopen and fwrite does not, since the C library then calls itself.
A rehearsal would show that: `sizes` of what was seen would not be those of the files.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.crashes import Prepare

SOURCE = Path(__file__).with_suffix(".c")
KINDS = ("open", "write", "truncate", "rename", "unlink", "link", "mkdir", "rmdir", "sync")
MOMENTS = ("", "before", "middle", "after")  # as in preload.c


@dataclass(frozen=True)
class Call:
    """A call that changes files below a store.

    Args:
        died: when the process died of it: "before", in the "middle", "after", or "" where it did not.
        kind: one of KINDS.
        size: of what is to be written, of the file after it is cut; 1 where a file is emptied as it is opened.
        result: of the call: negative where it failed, or was not made.
        path: of the file, and in `other` its new one where it is renamed.
    """

    died: str
    kind: str
    size: int
    result: int
    path: str
    other: str


@dataclass(frozen=True)
class Death:
    """The call that a process dies of, and when.

    Args:
        kinds: of the calls that count.
        file: the name of the file or folder that they are on; "" for any.
        number: which of them it dies of; 0 lists the calls alone.
        moment: "before" it, "after" it, or in the "middle" where it is a write.
        part: how much of the write is done then, between 0 and 1.
    """

    kinds: Sequence[str] = KINDS
    file: str = ""
    number: int = 0
    moment: str = ""
    part: float = 0.5

    def prepare(self, store: Path, notes: Path) -> Prepare:
        """Return what arms the library in a child: calls below `store` are listed in `notes`."""
        chosen = sum(1 << KINDS.index(kind) for kind in self.kinds)
        place, ending = os.path.realpath(store).encode(), f"/{self.file}".encode() if self.file else b""

        def arm() -> None:
            file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
            number, part = ctypes.c_long(self.number), ctypes.c_double(self.part)
            ctypes.CDLL(None).faults_arm(place, file, chosen, ending, number, MOMENTS.index(self.moment), part)

        return arm


def calls(notes: Path) -> list[Call]:
    """Return the calls of a process, in their order."""
    found = []
    for line in notes.read_text().splitlines():
        died, kind, size, result, path, other = line.split("\t")
        found.append(Call(died, kind, int(size), int(result), path, other))
    return found


def sizes(made: Iterable[Call]) -> dict[str, int]:
    """Return path -> bytes of the files that calls make in an empty store, if each writes at the end of its file."""
    found: dict[str, int] = {}
    for call in made:
        if call.result < 0:
            continue
        if call.kind == "open":
            found[call.path] = 0 if call.size else found.get(call.path, 0)
        elif call.kind == "write":
            found[call.path] += call.result
        elif call.kind == "truncate":
            found[call.path] = call.size
        elif call.kind == "rename":
            found[call.other] = found.pop(call.path)
        elif call.kind == "unlink":
            del found[call.path]
    return found


def is_loaded() -> bool:
    """Whether the library stands in front of the C library in this process."""
    return hasattr(ctypes.CDLL(None), "faults_arm")


def load() -> None:
    """Begin this process again with the library in it, where there is a compiler; the library's file is then removed.

    Programs that the process starts are to be without it.
    """
    if is_loaded():
        own, _, others = os.environ.pop("LD_PRELOAD").partition(" ")
        if others:
            os.environ["LD_PRELOAD"] = others
        shutil.rmtree(Path(own).parent)
    elif compiler := shutil.which("gcc"):
        library = Path(tempfile.mkdtemp(prefix="qexp-faults-")) / "preload.so"
        words = ("-O2", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-o", library, SOURCE)
        subprocess.run([compiler, *words], check=True)
        os.environ["LD_PRELOAD"] = " ".join(filter(None, (str(library), os.environ.get("LD_PRELOAD"))))
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv])
