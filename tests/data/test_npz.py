"""npz files in the place of a download."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from qexp.utils.errors import UsageError
from support.sources import source, write_pair


def test_npz_files_are_used_where_they_lie(tmp_path: Path, offline: list) -> None:
    write_pair(tmp_path / "cifar10")
    data = source("cifar10").load(tmp_path)
    expected = np.random.RandomState(6).randint(0, 256, (6, 32, 32, 3))
    assert np.array_equal(data.train.images, expected)
    assert data.train.labels.dtype == np.int64
    assert (len(data.train), len(data.test)) == (6, 4)
    assert offline == []


def test_size_is_compared_with_the_images_in_the_npz_file(tmp_path: Path) -> None:
    write_pair(tmp_path / "cifar10")
    with pytest.raises(UsageError, match="train_size=7: cifar10 has 6 training images"):
        source("cifar10", train_size=7).prepare(tmp_path)


def test_mnist_npz_may_leave_out_the_channel(tmp_path: Path) -> None:
    pixels = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28)
    write_pair(tmp_path / "mnist", images=pixels, labels=np.arange(5))
    np.savez_compressed(tmp_path / "mnist" / "test.npz", images=pixels[..., None], labels=np.arange(5, dtype=np.uint8))
    data = source("mnist").load(tmp_path)
    assert np.array_equal(data.train.images[..., 0], pixels)
    assert np.array_equal(data.train.images, data.test.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((6, 32, 32, 3), np.float32)}, "'images' is float32 6x32x32x3, expected uint8 Nx32x32x3"),
        ({"images": np.zeros((6, 3, 32, 32), np.uint8)}, "'images' is uint8 6x3x32x32, expected uint8 Nx32x32x3"),
        ({"labels": np.zeros(5, np.int64)}, "'labels' is int64 5, expected int64 6"),
        ({"labels": np.zeros(6)}, "'labels' is float64 6, expected int64 6"),
        ({"labels": np.full(6, 10)}, "labels run from 10 to 10, expected 0 to 9"),
        ({"labels": None}, "has no array 'labels'"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "holds no images"),
    ],
)
def test_wrong_npz_files_are_explained_in_one_line(changes: dict, message: str, tmp_path: Path) -> None:
    write_pair(tmp_path / "cifar10", **changes)
    with pytest.raises(UsageError) as caught:
        source("cifar10").load(tmp_path)
    assert message in str(caught.value)
    assert "train.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_the_arrays_that_are_read_are_those_that_were_checked(name: str, tmp_path: Path) -> None:
    """numpy prefers a file of the archive that is called as the array, whatever it holds."""
    write_pair(tmp_path / "cifar10")
    with zipfile.ZipFile(tmp_path / "cifar10" / "train.npz", "a") as archive:
        archive.writestr(name, b"no array at all")
    data = source("cifar10").load(tmp_path)
    assert (data.train.images.shape, data.train.labels.dtype) == ((6, 32, 32, 3), np.int64)


@pytest.mark.parametrize(
    "head", ["(" * 150, "{'shape': (8,", "9" * 9000, "{'descr': 3, 'fortran_order': 0, 'shape': (8,)}", "\0"]
)
def test_a_header_that_is_none_is_one_line(head: str, tmp_path: Path) -> None:
    write_pair(tmp_path / "cifar10")
    content = b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head.encode()
    with zipfile.ZipFile(tmp_path / "cifar10" / "train.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(UsageError, match="train.npz: is not a readable npz file"):
        source("cifar10").load(tmp_path)


def test_half_a_pair_and_a_damaged_file_are_usage_errors(tmp_path: Path) -> None:
    write_pair(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "train.npz").write_bytes(b"not a zip file")
    with pytest.raises(UsageError, match="not a readable npz file"):
        source("cifar10").prepare(tmp_path)
    (tmp_path / "cifar10" / "train.npz").unlink()
    with pytest.raises(UsageError, match="train.npz is missing beside it"):
        source("cifar10").prepare(tmp_path)


def test_arrays_beyond_the_memory_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros take a thousandth of their space in the file."""
    write_pair(tmp_path / "cifar10")
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(UsageError, match=r"'images' takes 18,560 bytes, and this machine has 10,000"):
        source("cifar10").prepare(tmp_path)
