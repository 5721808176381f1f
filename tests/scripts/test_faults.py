"""`make faults`: its smallest parts, from the command line."""

import shutil
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


@pytest.mark.process
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_runs_are_killed_at_calls_of_the_system(tmp_path: Path) -> None:
    """Training, overwrite=true and rm: nothing is lost, and the library saw every byte of their files."""
    words = ("writes", "--points", "3", "--jobs", "1", "--output", str(tmp_path / "table.md"))
    assert run_child(script("faults", *words), tmp_path) == 0, (tmp_path / "log").read_text()
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| writes |")]
    assert [row.split(" | ")[3] for row in rows] == ["0"] * 3
    assert all(int(row.split(" | ")[2]) >= 1 for row in rows)
