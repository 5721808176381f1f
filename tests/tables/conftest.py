"""A folder of tables."""

from pathlib import Path

import pytest

from support.papers import SMALL


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A folder of tables with one table, a/small."""
    place = workspace.parent / "paper"
    (place / "a").mkdir(parents=True)
    (place / "a" / "small.yaml").write_text(SMALL)
    return place
