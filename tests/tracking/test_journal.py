"""Journals go on where their checkpoint was."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qexp.tracking.journal import Journal

# Journals


@given(parts=st.lists(st.binary(max_size=20), max_size=6), keep=st.integers(0, 6), more=st.binary(max_size=30))
def test_a_journal_goes_on_where_its_checkpoint_was(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], keep: int, more: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal, positions = Journal(path), [0]
    for part in parts:
        journal.write(part)
        positions.append(journal.position()["j"])
    journal.close()
    at = positions[min(keep, len(parts))]
    again = Journal(path, at)
    again.write(more)
    again.close()
    assert path.read_bytes() == b"".join(parts)[:at] + more


def test_a_journal_that_is_too_short_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"abc")
    journal = Journal(tmp_path / "j", 5)
    journal.write(b"x")
    journal.close()
    assert (journal.is_new, (tmp_path / "j").read_bytes()) == (True, b"x")


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("at", [0, 3, 99])
def test_another_name_of_a_log_keeps_what_it_had(tmp_path: Path, make: Callable[[Path, Path], None], at: int) -> None:
    """Backups by hard links, and links that somebody put there."""
    other, path = tmp_path / "other", tmp_path / "log"
    other.write_bytes(b"12345")
    make(other, path)
    journal = Journal(path, at)
    journal.write(b"x")
    journal.close()
    assert other.read_bytes() == b"12345"
    assert path.read_bytes() == (b"123x" if at == 3 else b"x")
    assert not path.is_symlink()
