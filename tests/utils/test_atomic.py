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
