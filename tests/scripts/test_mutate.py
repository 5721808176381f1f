"""Planted mistakes: each still has its place in the code, and one of them from the command line."""

from pathlib import Path

import pytest

from support.crashes import run_child
from support.scripts import SCRIPTS, script


def test_every_mistake_has_its_place_and_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a line that a mistake is planted in changes the mistake as well."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from mistakes import MISTAKES

    root = SCRIPTS.parent
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) > 70
    assert [m.name for m in MISTAKES if (root / m.path).read_text().count(m.old) != 1] == []
    assert [name for m in MISTAKES for name in m.tests if not (root / "tests" / f"{name}.py").is_file()] == []


@pytest.mark.process
def test_a_mistake_from_the_command_line(tmp_path: Path) -> None:
    words = ("--nearest", "--write", str(tmp_path / "table.md"), "half-up")
    assert run_child(script("mutate.py", *words), tmp_path) == 0, (tmp_path / "log").read_text()
    assert "1 of 1 caught" in (tmp_path / "table.md").read_text()
