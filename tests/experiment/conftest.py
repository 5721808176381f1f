"""A package of the user's own, for the tests of what is made of one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qexp.config import trust


@pytest.fixture
def write(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`write(text)` makes it the module mine/part.py of a package that is trusted."""
    monkeypatch.setenv(trust.NAMES, "mine")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(text: str) -> None:
        Path("mine").mkdir()
        Path("mine/__init__.py").write_text("")
        Path("mine/part.py").write_text(text)

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
