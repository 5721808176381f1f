"""Files are there whole, or as they were before."""

import errno
import os
from pathlib import Path

import pytest

from qexp.utils import atomic
from qexp.utils.errors import QexpError


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    atomic.write(tmp_path / "a", b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QexpError) as caught:
        atomic.write(tmp_path / "a", b"after")
    advice = "make space and run the same command again"
    assert str(caught.value) == f"cannot write {tmp_path}/a: No space left on device; {advice}"
    assert caught.value.exit_code == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"before")]


def test_several_files_are_written_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the user breaks it off between two of them; what lies beside them is not touched."""
    (tmp_path / "a.tmp").write_bytes(b"mine")
    atomic.write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before == {"a.tmp": b"mine", "a": b"1", "b": b"2"}
    replace, calls = os.replace, []

    def breaks_off(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_together({tmp_path / "a": b"3", tmp_path / "c": b"4"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
