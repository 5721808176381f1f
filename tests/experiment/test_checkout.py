"""The state of the checkout: what stands for a commit, and for changes that can change a result."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qexp.experiment.checkout import git_state


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small git repository with a package, its configuration and a README, all committed."""
    root = tmp_path / "checkout"
    for name, content in (
        ("qexp/__init__.py", "one = 1\n"),
        ("qexp/engine/step.py", "two = 2\n"),
        ("conf/train.yaml", "bits: 2\n"),
        ("README.md", "hello\n"),
        (".gitignore", "*.pyc\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "-q")
    git(root, "add", ".")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> None:
    git(root, "commit", "-q", "-m", "x")


def changes(root: Path) -> str | None:
    """What stands for the uncommitted changes; twice the same."""
    found, again = git_state(root / "qexp"), git_state(root / "qexp")
    assert found == again
    assert found is not None
    return found["changes"]


@pytest.mark.process
def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    expected = {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False, "changes": None}
    assert git_state(checkout / "qexp") == expected


MATTERS: dict[str, Callable[[Path], object]] = {
    "a line": lambda root: (root / "qexp" / "__init__.py").write_text("one = 2\n"),
    "another line": lambda root: (root / "qexp" / "__init__.py").write_text("one = 3\n"),
    "the same line elsewhere": lambda root: (root / "qexp" / "engine" / "step.py").write_text("one = 2\n"),
    "configuration": lambda root: (root / "conf" / "train.yaml").write_text("bits: 3\n"),
    "a new file": lambda root: (root / "conf" / "new.yaml").write_text("bits: 3\n"),
    "a new file in a new folder": lambda root: shutil.copytree(root / "conf", root / "qexp" / "conf"),
    "a new name": lambda root: (root / "qexp" / "n\u00f6 \n.py").write_text("bits: 3\n"),
    "bytes": lambda root: (root / "qexp" / "__init__.py").write_bytes(b"\0\1\2"),
    "a deletion": lambda root: (root / "qexp" / "engine" / "step.py").unlink(),
    "a move": lambda root: (root / "qexp" / "engine" / "step.py").rename(root / "qexp" / "step.py"),
    "a staged move": lambda root: git(root, "mv", "qexp/engine/step.py", "qexp/moved.py"),
    "a staged copy": lambda root: stage(root, "qexp/moved.py", "two = 2\n"),
    "a staged line": lambda root: stage(root, "qexp/__init__.py", "one = 9\n"),
    "a staged file": lambda root: stage(root, "qexp/staged.py", "one = 9\n"),
}


def stage(root: Path, name: str, content: str) -> None:
    (root / name).write_text(content)
    git(root, "add", name)


@pytest.mark.process
def test_every_change_that_matters_has_a_hash_of_its_own(checkout: Path, tmp_path: Path) -> None:
    found = []
    for name, change in MATTERS.items():
        root = tmp_path / name
        shutil.copytree(checkout, root)
        change(root)
        found.append(changes(root))
    assert all(isinstance(one, str) and len(one) == 16 and set(one) <= set("0123456789abcdef") for one in found)
    assert len(set(found)) == len(MATTERS)


@pytest.mark.process
def test_the_hash_is_that_of_names_and_contents_and_goes_when_they_are_committed(checkout: Path) -> None:
    """The same change made twice is one change, and time, index and the user's configuration of git do not matter."""
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    (checkout / "conf" / "new.yaml").write_text("x\n")
    first = changes(checkout)
    os.utime(checkout / "qexp" / "__init__.py", (1, 1))
    git(checkout, "config", "diff.noprefix", "true")
    git(checkout, "config", "diff.external", "false")
    git(checkout, "config", "diff.relative", "false")
    git(checkout, "config", "color.ui", "always")
    assert changes(checkout) == first
    git(checkout, "add", ".")
    assert changes(checkout) == first
    commit(checkout)
    assert changes(checkout) is None
    (checkout / "qexp" / "__init__.py").write_text("one = 1\n")
    second = changes(checkout)
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    os.utime(checkout / "qexp" / "__init__.py", (2, 2))
    assert second not in (None, first)
    assert changes(checkout) is None


@pytest.mark.process
def test_what_cannot_change_a_result_has_no_hash(checkout: Path) -> None:
    """A README that is edited makes the checkout dirty, as before, but the result is that of the commit."""
    (checkout / "README.md").write_text("hello again\n")
    (checkout / "notes.txt").write_text("x")
    (checkout / "qexp" / "__init__.pyc").write_text("x")
    found = git_state(checkout / "qexp")
    assert found is not None
    assert (found["dirty"], found["changes"]) == (True, None)


@pytest.mark.process
def test_a_checkout_inside_a_larger_one_sees_its_own_files_only(checkout: Path) -> None:
    inner = checkout / "part"
    shutil.copytree(checkout / "qexp", inner / "qexp")
    git(checkout, "add", ".")
    commit(checkout)
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    assert changes(inner) is None
    (inner / "qexp" / "__init__.py").write_text("one = 2\n")
    assert changes(inner) == changes(checkout)


@pytest.mark.process
def test_what_is_in_no_checkout_has_no_state(checkout: Path, tmp_path: Path) -> None:
    """Neither has a package that is installed inside somebody else's checkout, nor a folder without a commit."""
    (checkout / ".venv" / "qexp").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    (tmp_path / "new" / "qexp").mkdir(parents=True)
    stage_in = tmp_path / "new"
    git(stage_in, "init", "-q")
    stage(stage_in, "qexp/a.py", "x")
    for folder in (checkout / ".venv" / "qexp", tmp_path / "plain", tmp_path / "nowhere", stage_in / "qexp"):
        assert git_state(folder) is None


@pytest.mark.process
def test_without_git_there_is_no_state(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state(checkout / "qexp") is None
