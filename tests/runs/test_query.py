"""`qexp runs rm`: which runs are removed, and which never."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.identity import float_parent, run_key
from qexp.config.yaml_files import to_yaml
from qexp.runs import query
from qexp.utils.errors import QexpError
from support.commands import Qexp
from support.processes import held_elsewhere
from support.stored_runs import SUMMARY, answer, listed

# rm


def test_rm_lists_asks_and_removes(qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (store["ste"] / "last.pt").write_bytes(bytes(2_000_000))
    answer(monkeypatch, "y\n")
    result = qexp("runs", "rm", "--state", "failed,diverged")
    assert (result.code, result.err) == (0, "")
    first, second, question = result.out.splitlines()
    assert first.split()[-2:] == ["diverged", "digits/resnet18/br-w4a4/s2-dddddddd"]
    assert second == "     2.0 MB  failed       digits/resnet18/ste-w1a1/s0-cccccccc"
    assert question == "remove 2 runs (2.0 MB)? [y/N] removed 2 runs (2.0 MB)"
    assert listed(qexp("runs").out) == ["abcdefgh", "bbbbbbbb"]
    assert sorted(path.name for path in Path("runs/digits/resnet18").iterdir()) == ["daq-w2a2", "dqa-w2a2"]


@pytest.mark.parametrize("text", ["n\n", "\n", "", "yy\n", "no\n"])
def test_any_answer_but_yes_removes_nothing(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer(monkeypatch, text)
    result = qexp("runs", "rm", "daq")
    assert result.code == 0
    assert result.out.endswith("nothing was removed\n")
    assert len(listed(qexp("runs").out)) == 4


@pytest.mark.parametrize("text", ["y\n", "YES\n", " yes \n"])
def test_yes_may_be_written_in_several_ways(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer(monkeypatch, text)
    assert qexp("runs", "rm", "abcdefgh").code == 0
    assert not store["daq"].exists()


def test_rm_all_leaves_an_empty_store(qexp: Qexp, store: dict[str, Path]) -> None:
    result = qexp("runs", "rm", "--all", "--yes")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].startswith("removed 4 runs (")
    assert list(Path("runs").iterdir()) == []


def test_several_runs_are_named_by_their_hashes(qexp: Qexp, store: dict[str, Path]) -> None:
    assert qexp("runs", "rm", "--yes", "abcdefgh", str(store["br"])).code == 0
    assert listed(qexp("runs").out) == ["bbbbbbbb", "cccccccc"]


@pytest.mark.process
def test_a_running_run_is_never_removed(qexp: Qexp, store: dict[str, Path]) -> None:
    """Exit code 1 says that something stays that was to go."""
    (store["daq"] / "summary.json").unlink()
    with held_elsewhere(store["daq"]):
        alone = qexp("runs", "rm", "--yes", "daq")
        both = qexp("runs", "rm", "--yes", "w2a2")
        stays = f"qexp runs: stays, because it is running: {store['daq']}"
        assert (alone.code, alone.out, alone.errors) == (1, "nothing was removed\n", [stays])
        assert (both.code, both.errors) == (1, [stays])
        assert both.out.splitlines()[-1].startswith("removed 1 run (")
        assert (store["daq"] / "config.yaml").is_file()
    assert not store["dqa"].exists()


@pytest.mark.process
def test_a_run_that_is_started_while_somebody_thinks_is_not_removed(store: dict[str, Path]) -> None:
    entry = query.Entry(store["dqa"])
    assert entry.state == "interrupted"
    with held_elsewhere(store["dqa"]), pytest.raises(runs.RunLocked):
        query.remove_run(Path("runs"), entry)
    (store["dqa"] / "summary.json").write_text(json.dumps(SUMMARY))
    runs.write_status(store["dqa"], "done")
    with pytest.raises(QexpError, match="^stays, because it was trained meanwhile: "):
        query.remove_run(Path("runs"), entry)
    assert runs.state_of(store["dqa"]) == "done"


@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_a_removal_that_is_killed_leaves_nothing_that_looks_done(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """After any number of its files is gone: not done any more, but still listed, and the same command ends it."""
    unlink, left = Path.unlink, iter(range(deleted))

    def kill(path: Path, missing_ok: bool = False) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        assert qexp("runs", "rm", "--yes", "abcdefgh").code == 130
    assert len(list(store["daq"].iterdir())) == 5 - deleted  # with the lock
    assert query.Entry(store["daq"]).state == ("damaged" if deleted else "done")
    assert qexp("runs", "rm", "--yes", "abcdefgh").code == 0
    assert listed(qexp("runs").out) == ["dddddddd", "bbbbbbbb", "cccccccc"]
    assert not store["daq"].exists()


def test_links_are_removed_and_what_they_lead_to_is_not(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("x")
    (store["daq"] / "last.pt").symlink_to(precious / "data")
    assert qexp("runs", "rm", "--yes", "abcdefgh").code == 0
    assert not store["daq"].exists()
    assert (precious / "data").read_text() == "x"


def test_what_qexp_did_not_make_stays_with_its_run(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    """A file, a folder and a link to one, also under a name that is a file of qexp's."""
    (store["daq"] / "notes.txt").write_text("mine")
    (store["dqa"] / "error.txt").mkdir()
    (store["ste"] / "plugins").symlink_to(tmp_path)
    before = {name: sorted(path.iterdir()) for name, path in store.items()}
    result = qexp("runs", "rm", "--yes", "--all")
    assert (result.code, result.errors) == (
        1,
        [
            f"qexp runs: stays, because it holds {name}, which qexp did not make: {store[method]}"
            for method, name in (("daq", "notes.txt"), ("dqa", "error.txt"), ("ste", "plugins"))
        ],
    )
    assert not store["br"].exists()
    for method in ("daq", "dqa", "ste"):
        assert [path for path in sorted(store[method].iterdir()) if path.name != "lock"] == before[method]


OTHERS = {
    "another seed": ("config.yaml", "seed: 0", "seed: 7", "its config.yaml is of digits/resnet18/?/s7"),
    "another data set": ("config.yaml", "name: digits", "name: mnist", "its config.yaml is of mnist/resnet18/?/s0"),
    "another result": ("summary.json", "abcdefgh", "hgfedcba", "its summary.json is of hgfedcba"),
}


@pytest.mark.parametrize(("name", "old", "new", "said"), OTHERS.values(), ids=OTHERS.keys())
def test_a_run_whose_name_and_record_differ_stays(
    qexp: Qexp, store: dict[str, Path], name: str, old: str, new: str, said: str
) -> None:
    path = store["daq"] / name
    path.write_text(path.read_text().replace(old, new))
    result = qexp("runs", "rm", "--yes", "abcdefgh")
    assert (result.code, result.errors) == (1, [f"qexp runs: stays, because {said}: {store['daq']}"])
    assert path.is_file()


def test_a_folder_that_is_no_run_stays(qexp: Qexp, store: dict[str, Path]) -> None:
    """Whatever lies four folders deep beside a config.yaml: somebody's project."""
    project = Path("runs/a/b/c/d")
    project.mkdir(parents=True)
    (project / "config.yaml").write_text("mine: true")
    result = qexp("runs", "rm", "--yes", "a/b/c/d")
    assert (result.code, result.errors) == (
        1,
        [f"qexp runs: stays, because its directory has no name of a run: {project}"],
    )
    assert (project / "config.yaml").read_text() == "mine: true"


def test_a_run_that_a_link_leads_to_stays(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "locked"
    os.rename(store["daq"], elsewhere)
    store["daq"].symlink_to(elsewhere)
    result = qexp("runs", "rm", "--yes", "abcdefgh")
    assert (result.code, result.errors) == (1, [f"qexp runs: stays, because a link leads to it: {store['daq']}"])
    assert (elsewhere / "summary.json").is_file()


def test_a_run_outside_of_the_store_is_not_removed(qexp: Qexp, store: dict[str, Path]) -> None:
    os.rename(store["daq"], "mine")
    result = qexp("runs", "rm", "--yes", "mine")
    assert (result.code, result.out) == (2, "")
    assert result.err == "qexp runs: error: 'mine': no run in runs has that in its path\n"
    assert Path("mine", "summary.json").is_file()


def test_a_run_that_cannot_be_removed_is_named_and_the_others_go(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir = Path.rmdir

    def refuse(path: Path) -> None:
        if path == store["daq"]:
            raise PermissionError(13, "Permission denied")
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", refuse)
    result = qexp("runs", "rm", "--yes", "w2a2")
    assert (result.code, result.errors) == (1, [f"qexp runs: cannot remove {store['daq']}: Permission denied"])
    assert not store["dqa"].exists()


def test_rm_says_that_others_were_trained_from_a_float_net(
    qexp: Qexp, workspace: Path, configure: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("quantizer=daq", "bits=2")
    place = Path("runs") / "digits" / "resnet18"
    for name, raw in ((f"daq-w2a2/s0-{config.key}", config.tree), ("fp-w32a32/s0-", float_parent(config.tree))):
        path = place / (name + run_key(raw) if name.endswith("-") else name)
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(to_yaml(raw))
        runs.write_status(path, "failed")
    answer(monkeypatch, "n\n")
    assert (
        "others were trained from these float nets, and stay with their results: 1\n" in qexp("runs", "rm", "fp-").out
    )
    answer(monkeypatch, "n\n")
    assert "others were" not in qexp("runs", "rm", "digits").out


def test_a_folder_that_goes_while_the_store_is_read_is_not_in_it(
    store: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where `qexp runs rm` removes its last run meanwhile."""
    look = os.scandir

    def gone(place: Any = ".") -> Any:
        if str(place).endswith("daq-w2a2"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", gone)
    found = query.run_paths(Path("runs"))
    assert sorted(path.name for path in found) == sorted(path.name for path in store.values() if path != store["daq"])
