"""Disks that are full or read-only: small file systems in memory."""

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cases import Case, Reference, Setting, compare, prepared, results, wrong
from rows import Row
from trials import Ended, Facts, Trial, attempt, begin, carry_out, check, end, no_traceback

from qexp.engine.train_state import TrainState
from support.crashes import command, kill_at

CASES = (Case("daq"), Case("ste", True))
FULL, READ_ONLY = os.strerror(errno.ENOSPC), os.strerror(errno.EROFS)
LARGE = 64 << 20


class Disk:
    """A file system in memory at `disk` in a folder; a store lies in it."""

    def __init__(self, folder: Path):
        self.path, self.store = folder / "disk", folder / "disk" / "runs"

    def mount(self, options: str) -> None:
        """Change its size or rights."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True, capture_output=True)

    def used(self) -> int:
        """Return the bytes that are taken."""
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Disk]:
    """Mount a new file system inside the block."""
    disk = Disk(folder)
    disk.path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "qexp-faults", disk.path], check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk.path], check=False, capture_output=True)


def rows(setting: Setting) -> Iterator[Row]:
    """Everything that may be wrong with a disk."""
    setting.references.prepare(CASES, setting.jobs)
    few = setting.share(0.1)
    if os.geteuid() == 0:
        (setting.folder / "peak").mkdir()
        peak = _peak(setting.folder / "peak")
        sizes = [4096 * round(peak * part / (few * 4096)) for part in range(few)]
        full = {f"size {size}": _full_from_start(setting, f"size={max(size, 4096)}", True) for size in sizes}
        yield row(setting, f"disks of 4 kB to {sizes[-1] / 1e6:.1f} MB ({peak / 1e6:.1f} needed)", full)
        files = {f"{count} files": _full_from_start(setting, f"nr_inodes={count}", False) for count in range(2, 22, 2)}
        yield row(setting, "disks that take few files", files)
        filled = {f"filled {number}": _filled(setting, f"filled {number}") for number in range(few)}
        yield row(setting, "disk filled up by others during the run", filled)
        others = {"read-only at first": _read_only, "read-only later": _read_only_later}
        yield row(setting, "read-only disks", {name: _bound(setting, what) for name, what in others.items()})
    else:
        yield Row("disk", "full and read-only disks: not run, needs root", 0)


def row(setting: Setting, what: str, trials: dict[str, Trial]) -> Row:
    """Carry out trials and return what came of them."""
    began = time.monotonic()
    findings = attempt(trials, setting.folder / next(iter(trials)).replace(" ", "-"), setting.jobs)
    failed = sum(finding.facts.get("failed", False) for finding in findings)
    return Row("disk", what, len(findings), wrong(findings), f"{failed} stopped a run", time.monotonic() - began)


def _bound(setting: Setting, what: Callable[[Setting, Path], Facts]) -> Trial:
    return lambda folder: what(setting, folder)


def _peak(folder: Path) -> int:
    """Return the most bytes that a run needs."""
    with mounted(folder, f"size={LARGE}") as disk:
        pid, most = begin(_on(CASES[0], disk), folder, prepared()), 0
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            most = max(most, disk.used())
            time.sleep(0.0005)
        check(end(pid, folder).code == 0, "the run on a large disk failed")
    return most


def _on(case: Case, disk: Disk) -> Callable[[], int]:
    return case.command(f"runs_dir={disk.store}")


def one_line(ended: Ended, code: int, reason: str) -> None:
    """Raise Wrong unless a command ended with `code` and exactly one line, which says what could not be written."""
    check(ended.code == code, f"ends with {ended.code} instead of {code}: {ended.err}")
    check(len(ended.err) == 1, f"{len(ended.err)} lines: {ended.err}")
    line = ended.err[0]
    is_named = line.startswith("qexp train: error: ") and "cannot write " in line
    check(is_named and reason in line, f"says {line}")


def usable(store: Path, folder: Path) -> None:
    """Raise Wrong unless the JSON files in a store are whole and `qexp runs` lists it."""
    for path in store.rglob("*.json"):
        with suppress(OSError):
            check(isinstance(json.loads(path.read_text() or "null"), dict), f"{path} is not whole")
    ended = carry_out(command(("runs", "--runs-dir", str(store))), folder)
    check((ended.code, ended.err) == (0, []), f"qexp runs ends with {ended.code}: {ended.err}")
    no_traceback(folder)


def _finish(case: Case, disk: Disk, folder: Path, expected: Reference) -> None:
    ended = carry_out(_on(case, disk), folder, prepared())
    check(ended.code == 0, f"lost: ends with {ended.code}: {ended.err}")
    compare(expected.results, results(disk.path))
    no_traceback(folder)


def _full_from_start(setting: Setting, options: str, grows: bool) -> Trial:
    def trial(folder: Path) -> Facts:
        case = CASES[0]
        with mounted(folder, options) as disk:
            ended = carry_out(_on(case, disk), folder, prepared())
            if ended.code:
                one_line(ended, 1, FULL)
                usable(disk.store, folder)
            disk.mount(f"size={LARGE}" if grows else "nr_inodes=1000")
            _finish(case, disk, folder, setting.references.of(case))
        return {"failed": ended.code != 0}

    return trial


def _filled(setting: Setting, name: str) -> Trial:
    def trial(folder: Path) -> Facts:
        draw = setting.draw(name)
        case = draw.choice(CASES)
        with mounted(folder, f"size={LARGE}") as disk:
            expected = setting.references.of(case)
            pid = begin(_on(case, disk), folder, prepared())
            expected.moment(draw).wait_for(disk.store)
            while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                _fill(disk.path / "filler")
                time.sleep(0.001)
            ended = end(pid, folder)
            if ended.code:
                one_line(ended, 1, FULL)
                usable(disk.store, folder)
            (disk.path / "filler").unlink(missing_ok=True)
            _finish(case, disk, folder, expected)
        return {"failed": ended.code != 0}

    return trial


def _fill(path: Path) -> None:
    """Let a file grow until the disk is full."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 4096):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass


def _read_only(setting: Setting, folder: Path) -> Facts:
    with mounted(folder, f"size={LARGE},ro") as disk:
        one_line(carry_out(_on(CASES[0], disk), folder, prepared()), 1, READ_ONLY)
        check(not list(disk.path.iterdir()), "something was created")
        disk.mount("rw")
        _finish(CASES[0], disk, folder, setting.references.of(CASES[0]))
    return {"failed": True}


def _read_only_later(setting: Setting, folder: Path) -> Facts:
    with mounted(folder, f"size={LARGE}") as disk:
        killed = carry_out(_on(CASES[0], disk), folder, prepared(kill_at(TrainState, "count", 7)))
        check(killed.code == -signal.SIGKILL, f"was not killed: {killed}")
        disk.mount("ro")
        before = contents(disk.path)
        one_line(carry_out(_on(CASES[0], disk), folder, prepared()), 1, READ_ONLY)
        usable(disk.store, folder)
        check(contents(disk.path) == before, "something has changed")
        disk.mount("rw")
        _finish(CASES[0], disk, folder, setting.references.of(CASES[0]))
    return {"failed": True}


def contents(folder: Path) -> dict[Path, bytes]:
    """Return what is in all files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
