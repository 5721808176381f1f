"""Trees of photographs, and a network that cannot be reached."""

import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp.utils.errors import UsageError
from support.photographs import imagenet, write_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the small ImageNet; for tests that only read."""
    data_dir = tmp_path_factory.mktemp("data")
    write_tree(data_dir / "imagenet")
    return data_dir


@pytest.fixture
def own_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(tree, tmp_path / "data"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Let every connection fail; the list collects the socket timeouts that were set then."""
    timeouts: list[float | None] = []

    def refuse(*_: Any, **__: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return timeouts


# What is refused


@pytest.fixture
def refused(own_tree: Path) -> Callable[..., str]:
    """`refused(**changes)` is the one line that refuses the tree before anything is created."""

    def message(**changes: Any) -> str:
        before = sorted(own_tree.rglob("*"))
        with pytest.raises(UsageError) as caught:
            imagenet(**changes).prepare(own_tree)
        assert sorted(own_tree.rglob("*")) == before
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message
