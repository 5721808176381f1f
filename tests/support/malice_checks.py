"""A malicious input is given to its command, in a process of its own, and nothing may have come of it.

Four things are looked at: nothing ran, nothing but the command's own runs has changed, it did not take long, and what
it printed is lines that any terminal can show.
"""

import faulthandler
import hashlib
import os
import re
import resource
import signal
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from qexp.cli.main import main
from qexp.runs.store import OWN
from qexp.utils.text import UNFIT
from support.crashes import start_child
from support.malice_case import CANARY, WORK, Case, write

LONGEST_SECONDS = 120.0  # by the clock: it hangs; a busy machine takes its time
MOST_WORK = 30.0  # seconds of processor time; the longest takes 7 on a fast machine, 20 on a slow one
MOST_BYTES = 8 * 2**30  # of memory, beyond what the process has when it starts; of a file, a quarter
LIBTIFF = "tempfile.tif: "  # how the library itself begins what it says of a file, past Python
CODES = (0, 1, 2, 3, 4)
PICTURES = (".svg", ".pdf", ".png", ".csv", ".html")
RUN = re.compile(r"runs/[^/]+/[^/]+/[^/]+/s\d+-[^/]+")

Entry = tuple[object, ...]
Command = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code or minus a signal, None where it was stopped.
        out: what it printed.
        err: the same, to standard error.
        work: its processor time in seconds, with that of the processes that it started and waited for.
    """

    code: int | None
    out: str
    err: str
    work: float


def verdict(case: Case, folder: Path, command: Command = main) -> list[str]:
    """Return what is wrong after the command was given the input; nothing, as a rule.

    Args:
        case: files and words.
        folder: an empty one, for both.
        command: what answers the words.
    """
    work = write(case, folder / "files")
    before = manifest(work.parent)
    ended = answer(case, work, folder, command)
    after = manifest(work.parent)
    return [*traces(after), *changes(case, before, after), *too_long(ended), *unfit(case, ended)]


# The process


def answer(case: Case, work: Path, folder: Path, command: Command) -> Ended:
    """Carry out the command of a case in its working directory, with an end to its time and memory."""

    def prepare() -> None:
        os.setsid()  # what it starts ends with it
        faulthandler.disable()  # that of pytest; a crash shows in the exit code
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        os.chdir(work)
        urllib.request.urlopen = _refuse
        os.environ.update(case.environment)
        sys.path.insert(0, str(work))
        sys.argv = ["qexp", *case.words]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES // 4,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def action() -> int:
        try:
            return command(list(case.words))
        finally:
            if CANARY.upper() in os.environ or "intruder" in sys.modules:
                (work / CANARY).touch()

    code, seconds = _end_of(start_child(action, folder, prepare))
    out, err = ((folder / name).read_bytes().decode(errors="surrogateescape") for name in ("out", "err"))
    return Ended(code, out, err, seconds)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise urllib.error.URLError("no network")


def _end_of(pid: int) -> tuple[int | None, float]:
    """Return how a child ended, and its processor time; after a while it is killed, with all that it started."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found or time.monotonic() > deadline:
            break
        time.sleep(0.005)
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(pid, signal.SIGKILL)
    if found:
        return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    os.waitpid(pid, 0)
    return None, 0.0


# The files


def manifest(root: Path) -> dict[str, Entry]:
    """Return what lies below a folder: path -> type, and all by which a change of it shows."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            found[str(path.relative_to(root))] = _entry(path)
    return found


def _entry(path: Path) -> Entry:
    about = path.lstat()
    kind, inode, time_ns = stat.S_IFMT(about.st_mode), about.st_ino, about.st_mtime_ns
    if stat.S_ISLNK(kind):
        return kind, inode, time_ns, os.readlink(path)
    if stat.S_ISREG(kind):
        is_small = about.st_size < 2**26  # the others are holes
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_small else ""
        return kind, inode, time_ns, about.st_size, digest
    return kind, inode, time_ns


def traces(after: Mapping[str, Entry]) -> list[str]:
    """(a) Return the traces of code that ran."""
    return [f"ran code: {path}" for path in after if Path(path).name.startswith(CANARY)]


def changes(case: Case, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[str]:
    """(b) Return what has changed and is nothing of the command's own runs."""
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    begun = {path for path in after if path not in before and _is_begun(case, path)}
    own = {f"{WORK}/{run}" for run in case.own} | begun
    drawn = {path for path in set(after) - set(before) if _is_picture(case, path, after[path])}
    store = f"{WORK}/runs/.jobs" if _trains(case) else ""  # a sweep has its folder there, for as long as it lasts
    above = {str(folder) for path in {*own, *drawn, store} for folder in Path(path).parents}
    wrong = []
    for path in sorted(set(changed) - drawn):
        kinds = {entry[0] for entry in (before.get(path), after.get(path)) if entry}
        is_above = path in above and kinds == {stat.S_IFDIR}
        if not (is_above or path in own and kinds == {stat.S_IFDIR} or _is_own_file(path, own, before)):
            what = "made" if path not in before else "removed" if path not in after else "changed"
            wrong.append(f"{what} {path!a}")
    return wrong


def _is_begun(case: Case, path: str) -> bool:
    """Whether this is the directory of a run that the command may have begun."""
    return _trains(case) and RUN.fullmatch(path.removeprefix(f"{WORK}/")) is not None


def _is_picture(case: Case, path: str, entry: Entry) -> bool:
    """Whether this is a file that the command made because it is asked to."""
    is_asked = case.words[:1] in (("plot",), ("report",)) and entry[0] == stat.S_IFREG
    return is_asked and Path(path).suffix.lower() in PICTURES


def _trains(case: Case) -> bool:
    return case.words[:1] == ("train",) and "--dry-run" not in case.words


def _is_own_file(path: str, own: set[str], before: Mapping[str, Entry]) -> bool:
    """Whether this is a file that qexp may write or remove: a folder in a run is none, whatever it is called."""
    folder, _, name = path.rpartition("/")
    is_folder = path in before and before[path][0] == stat.S_IFDIR
    return folder in own and OWN.fullmatch(name) is not None and not is_folder


# What it said


def too_long(ended: Ended) -> list[str]:
    """(c) Return that it took too long."""
    if ended.code is None:
        return [f"takes longer than {LONGEST_SECONDS:.0f} s"]
    return [f"takes {ended.work:.0f} s of processor time"] if ended.work > MOST_WORK else []


def unfit(case: Case, ended: Ended) -> list[str]:
    """(d) Return what is wrong with the exit code, and with the lines that were printed."""
    problems = []
    if ended.code is not None and ended.code not in CODES:
        problems.append(f"ends with {ended.code}")
    if "Traceback" in ended.out + ended.err:
        problems.append(f"a traceback: {ended.err[-400:]!a}")
    for text in (ended.out, ended.err):
        if found := UNFIT.search(re.sub("[\n\t]", "", text)):
            problems.append(f"prints {found[0]!a}: {text[:300]!a}")
    lines = [line for line in ended.err.splitlines() if not line.startswith(LIBTIFF)]
    says_elsewhere = case.words[:1] == ("doctor",)  # its page has a line for each problem
    if ended.code in CODES[1:] and not says_elsewhere:
        bad = [line for line in lines if not line.startswith("qexp")]
        if bad or not lines:
            problems.append(f"exit code {ended.code}, and says {(bad or lines)[:3]!a}")
    return problems
