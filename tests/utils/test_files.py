"""Files of others: what is no file does not block, and what is too large is not read."""

import os
import signal
from pathlib import Path

import pytest

from qexp.utils.files import read_regular
from support.limits import TookTooLong, within


def test_the_limit_rings() -> None:
    """So that the next tests can fail."""
    with pytest.raises(TookTooLong), within(0.05):
        signal.pause()


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"12345"


def test_a_larger_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456")
    with pytest.raises(OSError, match="it is larger than 5 bytes"):
        read_regular(tmp_path / "file", 5)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with within(5):
        for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/stdin"), tmp_path):
            with pytest.raises(OSError, match="regular file|Is a directory"):
                read_regular(path)
