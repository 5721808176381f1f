"""A folder of tables."""

from pathlib import Path

import pytest

from support.papers import make_folder


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A folder of tables with one table, a/small."""
    return make_folder(workspace.parent)
