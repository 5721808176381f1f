"""`make faults`: its smallest part, from the command line."""

from pathlib import Path

import pytest

from support.crashes import run_child
from support.scripts import script


@pytest.mark.process
def test_a_part_from_the_command_line(tmp_path: Path) -> None:
    """Nothing is wrong, and the table says how much was tried."""
    words = ("fuzz", "--fuzz", "8", "--jobs", "1", "--output", str(tmp_path / "table.md"))
    assert run_child(script("faults", *words), tmp_path) == 0, (tmp_path / "log").read_text()
    assert "| fuzz | command lines | 8 | 0 |" in (tmp_path / "table.md").read_text()
