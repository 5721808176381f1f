"""qexp new: what it writes passes its own tests, trains, and is never written over anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import Qexp
from support.pages import ROOT

FILES = {
    "method": ["my_x1/x1.py", "conf/quantizer/x1.yaml", "tests/test_x1.py"],
    "model": ["my_x1/x1.py", "conf/model/x1.yaml", "tests/test_x1.py"],
    "dataset": ["my_x1/x1.py", "conf/dataset/x1.yaml", "conf/recipe/x1.yaml", "tests/test_x1.py"],
    "table": ["conf/paper/x1/1.yaml", "tests/test_x1.py"],
}


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", FILES)
def test_it_writes_a_package_and_says_what_to_do_with_it(qexp: Qexp, workspace: Path, kind: str) -> None:
    result = qexp("new", kind, "x1")
    init = [] if kind == "table" else ["my_x1/__init__.py"]
    expected = sorted([*FILES[kind], *init, "README.md", "pyproject.toml"])
    assert (result.code, result.err) == (0, "")
    assert below(workspace / "my_x1") == expected
    *written, _, tests, train = result.out.splitlines()
    assert sorted(written) == [f"my_x1/{name}" for name in expected]
    assert tests == "its tests:  cd my_x1 && python -m pytest"
    command = train.removeprefix("train it:   cd my_x1 && ")
    assert command.startswith("qexp t")
    assert f"\n{command}\n" in Path("my_x1/README.md").read_text()
    assert "$" not in "".join(Path("my_x1", name).read_text() for name in expected).replace("${recipe.width}", "")


def test_a_second_part_joins_the_package_and_leaves_the_rest(qexp: Qexp, workspace: Path) -> None:
    assert qexp("new", "method", "one", "--to", "mine").code == 0
    Path("mine/README.md").write_text("my words")
    Path("mine/mine/__init__.py").write_text("VALUE = 1\n")
    result = qexp("new", "model", "two", "--to", "mine")
    assert result.out.splitlines()[:3] == ["mine/mine/two.py", "mine/conf/model/two.yaml", "mine/tests/test_two.py"]
    assert "_target_: mine.two.two\n" in Path("mine/conf/model/two.yaml").read_text()
    assert (Path("mine/README.md").read_text(), Path("mine/mine/__init__.py").read_text()) == (
        "my words",
        "VALUE = 1\n",
    )


@pytest.mark.process
@pytest.mark.thorough
def test_the_tests_of_all_kinds_pass_under_plain_pytest(qexp: Qexp, workspace: Path) -> None:
    for kind in FILES:
        assert qexp("new", kind, f"a_{kind}", "--to", "mine").code == 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "mine"],
        env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout


@pytest.mark.training
def test_the_skeleton_of_a_method_learns_the_digits_with_two_bits(
    qexp: Qexp, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not diverge in a few steps, at any bits. Its first version ended at chance, or not at all."""
    assert qexp("new", "method", "snappy").code == 0
    monkeypatch.syspath_prepend(workspace / "my_snappy")
    words = ("--config-dir", "my_snappy/conf", "trust=my_snappy", "quantizer=snappy", "device=cpu", "threads=1")
    for bits in (1, 2, 4):
        assert qexp("train", *words, "protocol=smoke", f"bits={bits}").code == 0
    assert qexp("train", *words, "bits=2", "recipe.epochs=3", "init=scratch").code == 0
    summaries = [json.loads(path.read_text()) for path in workspace.glob("runs/*/*/snappy-w2a2/*/summary.json")]
    (found,) = [summary["top1_hard"] for summary in summaries if summary["epochs"] == 3]
    assert found > 80


REFUSED = {
    "methd x": "methd: no such kind (did you mean 'method'?); there are method, model, dataset, table",
    "method class": "class: a name has small letters, digits and _, and is no word of Python",
    "method match": "match: a name has small letters",
    "method X": "X: a name has small letters",
    "method x-y": "x-y: a name has small letters",
    "method _x": "_x: a name has small letters",
    "method ../x": "../x: a name has small letters",
    "method é": "é: a name has small letters",
    f"method {'x' * 41}": f"{'x' * 41}: a name has small letters",
    "method random": "random: Python has a module of that name already; take another one",
    "method numpy": "numpy: Python has a module of that name already; take another one",
    "method daq": "daq: qexp has a method of that name already; take another one",
    "model resnet18": "resnet18: qexp has a model of that name already; take another one",
    "table dqa": "dqa: qexp has a table of that name already; take another one",
    "method x --to torch": "--to torch: the package has the folder's name, which is a part of Python",
    "method x --to a-b": "--to a-b: the package has the folder's name, which must be the name of a package",
    "method x --to file": "file: is there already, and is no folder; name another one by --to DIR",
    "method x --to full": "full: is there already, and is no folder of qexp new; name another one by --to DIR",
    "method": "the following arguments are required: NAME (qexp new --help)",
    "method x y": "unrecognized arguments: y (qexp new --help)",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_writes_nothing(qexp: Qexp, workspace: Path, words: str) -> None:
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("")
    before = below(workspace)
    result = qexp("new", *words.split())
    assert (result.code, result.out, len(result.errors)) == (2, "", 1)
    assert result.err.startswith(f"qexp new: error: {REFUSED[words]}")
    assert below(workspace) == before
    assert sorted(path.name for path in workspace.iterdir()) == ["file", "full"]


def test_no_file_is_overwritten_and_no_link_is_followed(qexp: Qexp, workspace: Path) -> None:
    assert qexp("new", "method", "one", "--to", "mine").code == 0
    outside = workspace.parent / "outside"
    Path("mine/conf/model").mkdir()
    Path("mine/conf/model/two.yaml").symlink_to(outside)
    before = below(workspace / "mine")
    for words, name in ((("method", "one"), "mine/mine/one.py"), (("model", "two"), "mine/conf/model/two.yaml")):
        result = qexp("new", *words, "--to", "mine")
        assert result.code == 2
        assert f"{name}: is there already, and nothing is overwritten" in result.err
    assert below(workspace / "mine") == before
    assert not outside.exists()


def test_a_disk_that_refuses_leaves_nothing_behind(
    qexp: Qexp, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth file cannot be opened, as on a full disk; what was made for it is taken away again."""
    opened, real = [], Path.open

    def full(self: Path, mode: str = "r", **options: str) -> object:
        if mode == "x":
            opened.append(self)
            if len(opened) == 4:
                raise OSError(28, "No space left on device", str(self))
        return real(self, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    result = qexp("new", "method", "one")
    assert (result.code, result.out) == (1, "")
    assert "cannot write my_one: No space left on device" in result.err
    assert list(workspace.iterdir()) == []
