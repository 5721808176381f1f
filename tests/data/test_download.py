"""Data that are fetched, and that cannot be."""

import socket
from pathlib import Path
from typing import Any

import pytest

from qexp.utils.errors import UsageError
from support.sources import source


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("mnist", "MNIST/raw")])
def test_offline_without_data_says_where_it_looked_and_leaves_nothing(
    name: str, folder: str, tmp_path: Path, offline: list, capfd: pytest.CaptureFixture
) -> None:
    data_dir = tmp_path / "a" / "b"
    with pytest.raises(UsageError) as caught:
        source(name).prepare(data_dir)
    line = str(caught.value)
    for part in (data_dir / name, data_dir / folder, "no network", "data_dir=PATH", "QEXP_DATA"):
        assert str(part) in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""
    assert set(offline) == {30.0}
    assert socket.getdefaulttimeout() is None


def test_failed_download_keeps_what_was_there(tmp_path: Path, offline: list) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"half")
    with pytest.raises(UsageError, match="download failed"):
        source("cifar100").prepare(tmp_path)
    assert (tmp_path / "cifar-100-python" / "train").read_bytes() == b"half"


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("mnist", "MNIST/raw")])
def test_damaged_torchvision_files_are_a_usage_error(name: str, folder: str, tmp_path: Path, offline: list) -> None:
    built: Any = source(name)
    for file in built.download.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"damaged")
    built.prepare(tmp_path)
    with pytest.raises(UsageError) as caught:
        built.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / folder}: the files are damaged")
