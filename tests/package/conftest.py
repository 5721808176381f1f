"""A package outside of the tree."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages import OWN_PACKAGE


@pytest.fixture
def own(workspace: Path) -> Iterator[Path]:
    """A copy of the package in ./homemade, with ./conf beside it; it is forgotten afterwards."""
    shutil.copytree(OWN_PACKAGE, workspace, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    yield workspace
    for name in [name for name in sys.modules if name.partition(".")[0] == "homemade"]:
        del sys.modules[name]
