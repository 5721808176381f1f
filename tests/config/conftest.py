"""The configuration that all these tests change."""

from pathlib import Path
from typing import Any

import pytest

from support.commands import Configure
from support.jobs import LOCAL_METHOD


@pytest.fixture(scope="module")
def raw(configure: Configure) -> dict[str, Any]:
    """The resolved tree of `qexp train`, as YAML gives it."""
    return dict(configure().tree)


@pytest.fixture(autouse=True)
def _train_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that goes unnoticed must not start a training of the default size."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the check let it through")

    monkeypatch.setattr("qexp.cli.jobs.run_experiment", refuse)


@pytest.fixture
def conf(workspace: Path) -> Path:
    """The user's own configuration folder, outside the working directory, with a quantizer `mine`."""
    folder = workspace.parent / "my conf"
    (folder / "quantizer").mkdir(parents=True)
    (folder / "quantizer" / "mine.yaml").write_text(LOCAL_METHOD)
    return folder
