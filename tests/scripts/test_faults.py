"""`make faults`: the smallest trials of its parts, from the command line."""

from pathlib import Path

import pytest

from support.crashes import run_child
from support.scripts import script


@pytest.mark.parametrize(("part", "trials"), [("kills", "2"), ("fuzz", "2")])
def test_a_part_from_the_command_line(tmp_path: Path, part: str, trials: str) -> None:
    """Nothing is wrong, and the table says how much was tried."""
    words = (part, "--points", "2", "--fuzz", "20", "--jobs", "1", "--output", str(tmp_path / "table.md"))
    code = run_child(script("faults", *words), tmp_path)
    assert code == 0, (tmp_path / "log").read_text()
    assert f"| {part} |" in (tmp_path / "table.md").read_text()
