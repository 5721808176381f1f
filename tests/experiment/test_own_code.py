"""The digest of the user's own code in a run's record: what counts, and when it is told to have changed."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qexp.config import trust
from qexp.config.config import Section
from qexp.experiment.own_code import own_code, told_change
from support.commands import Configure


@pytest.fixture
def package(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package that is trusted, not yet there; `alone` is trusted as well."""
    monkeypatch.setenv(trust.NAMES, "mine,alone")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return workspace / "mine"


CODE = {
    "part.py": "from mine import near\nfrom . import beside\nfrom .deep.down import z\nimport torch\n",
    "near.py": "import mine.far as f\n",
    "far.py": "def later():\n    from .last import q\n",
    "last.py": "q = 1\n",
    "beside.py": "",
    "deep/__init__.py": "",
    "deep/down.py": "from ..upper import u\nz = u\n",
    "upper.py": "from mine.part import x  # round and round\nu = 1\n",
    "stranger.py": "x = 1\n",
    "deep/stranger.py": "x = 1\n",
}


def test_the_digest_is_of_the_code_that_a_run_uses(package: Path, configure: Configure) -> None:
    """Through import statements of every form, in functions as well; and of nothing else."""
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, text in CODE.items():
        Path("mine", name).write_text(text)
    config = replace(configure(), quantizer=Section("x", "mine.part.X"))
    assert own_code(configure()) == {}
    first = own_code(config)
    assert list(first) == ["mine"]
    assert first["mine"]["version"] is None
    counted = []
    for name in (*CODE, "__init__.py"):
        with Path("mine", name).open("a") as file:
            file.write("# a thought\n")
        counted += [name] if own_code(config) != first else []
        Path("mine", name).write_text(CODE.get(name, ""))
        assert own_code(config) == first
    assert counted == [*(name for name in CODE if "stranger" not in name), "__init__.py"]


def test_a_single_file_is_a_package_too(package: Path, configure: Configure) -> None:
    config = replace(configure(), quantizer=Section("x", "alone.X"))
    Path("alone.py").write_text("x = 1")
    first = own_code(config)["alone"]["digest"]
    Path("alone.py").write_text("x = 2")
    assert own_code(config)["alone"]["digest"] != first


def test_a_change_is_told_of_what_both_records_know() -> None:
    now: dict = {"a": {"version": None, "digest": "1"}, "b": {"version": "2", "digest": "3"}}
    assert told_change(now, now) is None
    assert told_change(None, now) is None
    assert told_change("damaged", now) is None
    assert told_change({"a": now["a"]}, now) is None
    assert told_change({**now, "b": {"version": "1", "digest": "3"}}, now) == (
        "the code of b has changed since this run was trained"
    )
    assert told_change({"a": None, "b": 3}, now) == "the code of a, b has changed since this run was trained"
