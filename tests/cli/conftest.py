"""A table of its own for `qexp table`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qexp.cli import table
from support.commands import Result
from support.papers import make_folder


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A folder of tables with one table, a/small."""
    return make_folder(workspace.parent)


@pytest.fixture
def small(folder: Path, capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    """`small(*words)` is `qexp table a/small *words` on that folder."""

    def run(*words: str) -> Result:
        capsys.readouterr()
        code = table.main(["a/small", *words], folder=folder)
        return Result(code, *capsys.readouterr())

    return run
