"""The run store: states, locks, and finding a run."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from qexp import runs
from qexp.config import places
from qexp.config.places import starting_checkpoint
from qexp.utils.errors import QexpError, UsageError
from support.commands import Qexp
from support.limits import within
from support.processes import held_elsewhere
from support.stored_runs import listed


def make_run(store: Path, name: str, state: str = "done") -> Path:
    """A run directory with a status and a configuration, `name` as in daq-w2a2/s0-01234567."""
    path = store / "digits" / "resnet18" / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("seed: 0\n")
    runs.write_status(path, state)  # type: ignore[arg-type]
    return path


# State and lock


def test_no_directory_no_status_and_a_damaged_status_are_no_state(tmp_path: Path) -> None:
    assert runs.state_of(tmp_path / "nowhere") is None
    assert runs.state_of(tmp_path) is None
    (tmp_path / "status.json").write_text('{"state": "do')
    assert runs.state_of(tmp_path) is None
    for text in ("[]", '{"state": 5}', '{"state": ["done"]}', '{"state": "well"}'):
        (tmp_path / "status.json").write_text(text)
        assert runs.state_of(tmp_path) is None


@pytest.mark.parametrize("state", ["done", "failed", "diverged", "interrupted"])
def test_a_state_is_what_was_written(tmp_path: Path, state: runs.State) -> None:
    runs.write_status(tmp_path, state, "because")
    assert runs.state_of(tmp_path) == state
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["message"], status["pid"]) == (state, "because", os.getpid())


def test_running_needs_a_held_lock(tmp_path: Path) -> None:
    """A process that was killed cannot write that it was interrupted; its lock is gone, and that says it."""
    runs.write_status(tmp_path, "running")
    assert runs.state_of(tmp_path) == "interrupted"
    with runs.claim(tmp_path):
        assert runs.state_of(tmp_path) == "running"
    assert runs.state_of(tmp_path) == "interrupted"


@pytest.mark.process
def test_a_run_held_by_another_process_cannot_be_claimed_until_that_dies(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run"
    with held_elsewhere(path) as process:
        assert runs.state_of(path) == "running"
        with pytest.raises(runs.RunLocked) as caught, runs.claim(path):
            raise AssertionError("two processes share a run")
        assert f"pid {process.pid} " in str(caught.value)
        assert str(path) in str(caught.value)
        process.kill()
        assert runs.state_of(path) == "interrupted"
        with runs.claim(path):
            assert f"pid {os.getpid()} " in (path / "lock").read_text()
            assert str(process.pid) not in (path / "lock").read_text()


@pytest.mark.process
def test_waiting_for_a_run_ends_when_the_other_process_ends(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.let_go()
        with runs.claim(tmp_path, wait=True):
            assert f"pid {os.getpid()} " in (tmp_path / "lock").read_text()


def test_a_claim_is_released_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runs.claim(tmp_path):
        _ = 1 / 0
    with runs.claim(tmp_path):
        pass


def test_a_lock_that_was_removed_with_its_run_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes the run between the opening of its lock and the taking of it."""
    path, real, taken = tmp_path / "run", fcntl.flock, []

    def remove_first(file: int, operation: int) -> None:
        real(file, operation)
        if operation & fcntl.LOCK_EX:
            taken.append(file)
        if len(taken) == 1:
            shutil.rmtree(path, ignore_errors=True)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with runs.claim(path):
        assert len(taken) == 2
        with pytest.raises(runs.RunLocked), runs.claim(path):
            raise AssertionError("two hold the run")


def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*/file/run: Not a directory"):  # noqa: SIM117
        with runs.claim(tmp_path / "file" / "run"):
            pass


def test_a_place_where_nothing_can_be_made_is_an_error_and_no_endless_loop() -> None:
    """/proc takes no folders, and says that there is no such file."""
    with (
        pytest.raises(UsageError, match="cannot write /proc/x/run: No such file or directory"),
        runs.claim(Path("/proc/x/run")),
    ):
        raise AssertionError("it was made")


def test_clear_leaves_the_lock_alone_and_what_qexp_did_not_make(tmp_path: Path) -> None:
    """If the lock file were removed, a second process could make and hold another one."""
    with runs.claim(tmp_path):
        (tmp_path / "plugins" / "deep").mkdir(parents=True)
        (tmp_path / "notes.txt").write_text("mine")
        for name in ("last.pt", "best-previous.pt", "summary.json.tmp", "events.out.tfevents.qexp"):
            (tmp_path / name).write_text("x")
        runs.clear(tmp_path)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lock", "notes.txt", "plugins"]
        with pytest.raises(runs.RunLocked), runs.claim(tmp_path):
            raise AssertionError("the lock was lost")


def test_clear_removes_first_what_makes_a_run_done_or_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in the middle leaves nothing that looks done, and nothing half to go on from."""
    names = (
        "config.yaml",
        "best.pt",
        "env.json",
        "last.pt",
        "layers.jsonl",
        "metrics.jsonl",
        "status.json",
        "summary.json",
    )
    for name in (*names, "lock"):
        (tmp_path / name).write_text("x")
    order, real = [], Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (order.append(path.name), real(path, **options)))
    runs.clear(tmp_path, keep=("status.json",))
    assert order == ["summary.json", "best.pt", "last.pt", "config.yaml", "env.json", "layers.jsonl", "metrics.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "status.json"]


# Files


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    runs.write_json(path, {"top1": 90.5})
    seen = []

    def killed_before_the_rename(source: Path, target: Path) -> None:
        seen.append((json.loads(Path(source).read_text()), json.loads(Path(target).read_text())))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed_before_the_rename)
    with pytest.raises(KeyboardInterrupt):
        runs.write_json(path, {"top1": 91.5})
    assert seen == [({"top1": 91.5}, {"top1": 90.5})]
    assert runs.read_json(path) == {"top1": 90.5}


def test_json_that_is_missing_or_damaged_reads_as_nothing(tmp_path: Path) -> None:
    assert runs.read_json(tmp_path / "nothing.json") is None
    (tmp_path / "half.json").write_text('{"a": ')
    assert runs.read_json(tmp_path / "half.json") is None


def test_the_store_is_named_by_option_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.store_root(None) == Path("runs")
    monkeypatch.setenv("QEXP_RUNS", "~/mine")
    assert places.store_root(None) == Path.home() / "mine"
    assert places.store_root("/other") == Path("/other")


def test_the_data_folder_is_named_by_option_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QEXP_DATA", raising=False)
    assert places.data_root(None) == Path("data")
    monkeypatch.setenv("QEXP_DATA", "/data/sets")
    assert places.data_root(None) == Path("/data/sets")
    assert places.data_root("mine") == Path("mine")


# Finding runs


def test_runs_are_listed_by_name_and_other_folders_are_not(tmp_path: Path) -> None:
    second, first = make_run(tmp_path, "ste-w2a2/s0-bb"), make_run(tmp_path, "daq-w2a2/s1-aa")
    (tmp_path / "digits" / "resnet18" / "ste-w2a2" / "no-status").mkdir()
    (tmp_path / ".jobs" / "20260101" / "0").mkdir(parents=True)
    assert places.list_runs(tmp_path) == [first, second]
    assert places.list_runs(tmp_path / "nowhere") == []


def test_a_run_is_found_by_its_directory_or_the_beginning_of_its_hash(tmp_path: Path) -> None:
    path = make_run(tmp_path, "daq-w2a2/s0-0123abcd")
    make_run(tmp_path, "daq-w2a2/s1-0129ffff")
    for text in ("0123abcd", "0123", str(path), f"{path}/"):
        assert places.find_run(tmp_path, text) == path


@pytest.mark.parametrize("text", ["", "ffff", "s0", "s0-0123abcd", "nowhere/at/all"])
def test_what_names_no_run_is_a_usage_error_that_names_it(tmp_path: Path, text: str) -> None:
    make_run(tmp_path, "daq-w2a2/s0-0123abcd")
    with pytest.raises(UsageError, match=f"^no run '{text}'"):
        places.find_run(tmp_path, text)


def test_a_folder_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^no run '"):
        places.find_run(tmp_path, str(tmp_path))


def test_a_hash_that_fits_several_runs_lists_them(tmp_path: Path) -> None:
    paths = [make_run(tmp_path, name) for name in ("daq-w2a2/s0-0123abcd", "ste-w2a2/s0-0129ffff")]
    with pytest.raises(UsageError) as caught:
        places.find_run(tmp_path, "012")
    assert all(str(path) in str(caught.value) for path in paths)
    assert "names 2 runs" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_initial_checkpoint_is_a_file_or_the_last_of_a_run(tmp_path: Path, configure: Callable) -> None:
    path = make_run(tmp_path, "fp-w32a32/s0-0123abcd")
    (path / "last.pt").write_bytes(b"x")
    config = configure(f"runs_dir={tmp_path}")

    def found(init: str) -> Path | None:
        return starting_checkpoint(init, config.runs_dir)

    assert [found("fp"), found("scratch")] == [None, None]
    assert found("0123abcd") == found(str(path)) == found(str(path / "last.pt")) == path / "last.pt"
    with pytest.raises(UsageError, match=r"^init=best: must be fp, scratch, torchvision, a checkpoint file or a run"):
        found("best")


def test_a_run_without_a_checkpoint_is_no_start(tmp_path: Path, configure: Callable) -> None:
    make_run(tmp_path, "fp-w32a32/s0-0123abcd", "failed")
    with pytest.raises(UsageError, match="0123abcd"):
        starting_checkpoint("0123abcd", str(tmp_path))


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    one, again, two = (places.file_digest(tmp_path / name) for name in "abc")
    assert one == again != two
    assert one == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


# What others put in the place of files


def test_pipes_in_the_place_of_files_do_not_block_a_list(qexp: Qexp, store: dict[str, Path]) -> None:
    for name in ("status.json", "summary.json", "config.yaml", "metrics.jsonl", "env.json", "lock"):
        (store["daq"] / name).unlink(missing_ok=True)
        os.mkfifo(store["daq"] / name)
    with within(20):
        assert len(listed(qexp("runs").out)) == 3
        assert qexp("runs", "show", str(store["daq"])).code == 2
        assert runs.state_of(store["daq"]) is None


def test_nested_json_reads_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"a":' * 100_000)
    assert runs.read_json(tmp_path / "status.json") is None


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["lock", "status.json", "status.json.tmp"])
def test_nothing_is_written_through_links(tmp_path: Path, name: str, make: Callable[[Path, Path], None]) -> None:
    precious, run = tmp_path / "precious", tmp_path / "a" / "b" / "c" / "s0-abcdefgh"
    run.mkdir(parents=True)
    precious.write_text("precious")
    make(precious, run / name)
    with suppress(QexpError), runs.claim(run):
        runs.write_status(run, "running")
        runs.clear(run)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_folder_of_the_store_that_is_a_link_is_refused(tmp_path: Path, depth: int) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "store" / "a" / "b" / "c" / "s0-abcdefgh"
    elsewhere.mkdir()
    link = [*reversed(run.parents[:3]), run][depth]
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is a link; qexp writes and removes in folders"), runs.claim(run):
        raise AssertionError("it was claimed")
    assert list(elsewhere.iterdir()) == []


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "big disk")
    with runs.claim(tmp_path / "store" / "a" / "b" / "c" / "s0-abcdefgh"):
        assert (tmp_path / "big disk" / "a").is_dir()
