"""Disks that are full, read-only, broken or not ours: small file systems in memory, and errors inside calls."""

import errno
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cases import POINTS, Case, Point, Reference, Setting, compare, prepared, results, wrong
from crashes import Prepare, command, kill_at
from figures import Row
from trials import Ended, Facts, Trial, attempt, begin, carry_out, check, end, no_traceback

from qexp.engine.state import Training

CASES = (Case("daq"), Case("ste", True))
FULL, READ_ONLY, DENIED = (os.strerror(number) for number in (errno.ENOSPC, errno.EROFS, errno.EACCES))
LARGE = 64 << 20
NOBODY = 65534


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
        yield _row(setting, f"disks of 4 kB to {sizes[-1] / 1e6:.1f} MB ({peak / 1e6:.1f} needed)", full)
        files = {f"{count} files": _full_from_start(setting, f"nr_inodes={count}", False) for count in range(2, 22, 2)}
        yield _row(setting, "disks that take few files", files)
        filled = {f"filled {number}": _filled(setting, f"filled {number}") for number in range(few)}
        yield _row(setting, "disk filled up by others during the run", filled)
        others = {"read-only at first": _read_only, "read-only later": _read_only_later}
        others |= {"folder of another user": _denied, "run of another user": _denied_run}
        yield _row(
            setting, "read-only, or of another user", {name: _bound(setting, what) for name, what in others.items()}
        )
    else:
        yield Row("disk", "full, read-only, of another user: not run, needs root", 0)
    broken = {f"error {number}": _broken(setting, f"error {number}") for number in range(setting.share(0.3))}
    yield _row(setting, "errors (no space, input/output, read-only) of single calls", broken)


def _row(setting: Setting, what: str, trials: dict[str, Trial]) -> Row:
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
    is_named = line.startswith("qexp train: error: ") and "cannot write /" in line
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
            time.sleep(expected.moment(draw))
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
        killed = carry_out(_on(CASES[0], disk), folder, prepared(kill_at(Training, "count", 7)))
        check(killed.code == -signal.SIGKILL, f"was not killed: {killed}")
        disk.mount("ro")
        before = _contents(disk.path)
        one_line(carry_out(_on(CASES[0], disk), folder, prepared()), 1, READ_ONLY)
        usable(disk.store, folder)
        check(_contents(disk.path) == before, "something has changed")
        disk.mount("rw")
        _finish(CASES[0], disk, folder, setting.references.of(CASES[0]))
    return {"failed": True}


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _denied(setting: Setting, folder: Path) -> Facts:
    store = folder / "store"
    store.mkdir(mode=0o555)
    ended = carry_out(CASES[0].command(f"runs_dir={store}"), folder, prepared(lambda: os.setuid(NOBODY)))
    one_line(ended, 2, DENIED)
    check(not list(store.iterdir()), "something was created")
    return {"failed": True}


def _denied_run(setting: Setting, folder: Path) -> Facts:
    check(carry_out(CASES[0].command(), folder, prepared(kill_at(Training, "count", 7))).code < 0, "was not killed")
    before = _contents(folder / "runs")
    ended = carry_out(CASES[0].command(), folder, prepared(lambda: os.setuid(NOBODY)))
    one_line(ended, 2, DENIED)
    check(_contents(folder / "runs") == before, "something has changed")
    return {"failed": True}


def _broken(setting: Setting, name: str) -> Trial:
    def trial(folder: Path) -> Facts:
        draw = setting.draw(name)
        case = draw.choice(CASES)
        expected = setting.references.of(case)
        point = draw.choice(("fsync", "replace", "mkdir", "a length of a journal"))
        count, number = draw.randint(1, expected.calls[point]), draw.choice((errno.ENOSPC, errno.EIO, errno.EROFS))
        ended = carry_out(case.command(), folder, prepared(fail_at(POINTS[point], count, number)))
        if ended.code:
            one_line(ended, 1, os.strerror(number))
            usable(folder / "runs", folder)
        again = carry_out(case.command(), folder, prepared())
        check(again.code == 0, f"lost: ends with {again.code}: {again.err}")
        compare(expected.results, results(folder))
        return {"failed": ended.code != 0}

    return trial


def fail_at(point: Point, count: int, number: int) -> Prepare:
    """Return what lets one call fail with an error number."""

    def prepare() -> None:
        real, calls = getattr(point.owner, point.name), [0]

        def replaced(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == count:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        setattr(point.owner, point.name, replaced)

    return prepare
