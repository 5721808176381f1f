"""Locks: they die with their process, and where the file system has none a file says who trains a run."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qexp import runs
from qexp.runs import locks as module
from qexp.runs.locks import LOCK, MARKER, RunLocked, holding, is_locked
from qexp.runs.query import DAMAGED, Entry
from support.commands import Qexp


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=["37", "95", "38"])
def _no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


NOBODY = 2**30  # more than a process can have for a number


def mark(folder: Path, pid: int, where: str | None = None, host: str = "elsewhere") -> Path:
    (folder / LOCK).touch()
    (folder / MARKER).write_text(f"pid {pid} on {host}\n{where or module._here()}\n")
    return folder / MARKER


@pytest.mark.usefixtures("_no_flock")
def test_without_flock_one_holder_at_a_time(tmp_path: Path) -> None:
    with holding(tmp_path, wait=False):
        assert is_locked(tmp_path)
        with pytest.raises(RunLocked) as refused, holding(tmp_path, wait=False):
            pass
    expected = f"locked by pid {os.getpid()} on {os.uname().nodename}: {tmp_path} (locks do not work in this folder; "
    assert str(refused.value) == f"{expected}if that process has ended, remove {tmp_path / MARKER})"
    assert not is_locked(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK]


@pytest.mark.usefixtures("_no_flock")
def test_without_flock_a_process_that_has_ended_holds_nothing(tmp_path: Path) -> None:
    mark(tmp_path, NOBODY)
    assert not is_locked(tmp_path)
    with holding(tmp_path, wait=False):
        assert (tmp_path / MARKER).read_text().startswith(f"pid {os.getpid()} ")


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("where", ["another boot pid:[4026531836]", "unknown", "half"])
def test_without_flock_the_process_of_another_machine_or_container_is_not_taken_for_ended(
    tmp_path: Path, where: str
) -> None:
    """Two containers may have one host name, and a number that means nothing here may be a live process there."""
    marker = mark(tmp_path, NOBODY, where, host=os.uname().nodename)
    content = marker.read_text()
    assert is_locked(tmp_path)
    with pytest.raises(RunLocked, match="if that process has ended, remove"), holding(tmp_path, wait=False):
        pass
    assert marker.read_text() == content


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "")


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("links", [True, False])
def test_a_marker_that_another_starter_has_just_put_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    marker = mark(tmp_path, os.getpid())
    module._take_away(marker)
    assert marker.read_text().startswith(f"pid {os.getpid()} ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, MARKER]


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("said", [f"pid {10**30} on x", "pid -1 on x", "pid x", "", "junk\n\n\n"])
def test_a_marker_that_says_nothing_is_held(tmp_path: Path, said: str) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / MARKER).write_text(f"{said}\n{module._here()}\n")
    assert is_locked(tmp_path)


@pytest.mark.usefixtures("_no_flock")
def test_the_marker_of_another_starter_is_not_removed(tmp_path: Path) -> None:
    """The run was removed meanwhile, and somebody began it."""
    with holding(tmp_path, wait=False):
        mark(tmp_path, 1, "elsewhere")
    assert is_locked(tmp_path)


@pytest.mark.usefixtures("_no_flock")
def test_without_flock_a_store_is_listed_and_a_run_removed(qexp: Qexp, store: dict[str, Path]) -> None:
    path = store["daq"]
    (path / LOCK).touch()
    assert Entry(path).state != DAMAGED
    runs.write_status(path, "running")
    assert Entry(path).state == "done", "it has its summary"
    (path / "summary.json").unlink()
    assert Entry(path).state == "interrupted"
    mark(path, 1, "elsewhere")
    assert Entry(path).state == "running"
    assert qexp("runs", "rm", str(path), "--yes").code == 1
    (path / MARKER).unlink()
    assert qexp("runs", "rm", str(path), "--yes").code == 0
    assert not path.exists()


@pytest.mark.process
def test_a_lock_dies_with_its_process_though_its_workers_live(tmp_path: Path) -> None:
    """Workers that decode images are forked, and hold what their process held, unless that is closed in them."""
    program = """
import os, sys, time
from pathlib import Path
from qexp.runs.locks import holding
with holding(Path(sys.argv[1]), wait=False):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        worker = int(child.stdout.readline())
        try:
            assert is_locked(tmp_path)
            child.kill()
            child.wait()
            end = time.monotonic() + 5
            while is_locked(tmp_path) and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(worker, 0)  # it lives
            assert not is_locked(tmp_path)
        finally:
            os.kill(worker, signal.SIGKILL)
