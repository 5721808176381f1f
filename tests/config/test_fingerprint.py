"""The user's own data are part of what a run is; downloads, which are always the same, are not."""

import os
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from qexp.config import fingerprint as module
from qexp.config.config import recorded_config
from qexp.config.fingerprint import IMAGES, fingerprint
from support.commands import Configure

IMAGENET, CIFAR = "qexp.data.imagenet.ImageNet", "qexp.data.datasets.Cifar10"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for split, name, size in (("train", "a", 3), ("train", "b", 4), ("val", "a", 5), ("val", "b", 6)):
        path = tmp_path / "imagenet" / split / name / "one.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    return tmp_path


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    (tmp_path / "cifar10").mkdir()
    for split, count in (("train", 20), ("test", 10)):
        images, labels = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 10
        np.savez(tmp_path / "cifar10" / f"{split}.npz", images=images, labels=labels)
    return tmp_path


def rename(root: Path) -> None:
    (root / "train/a/one.JPEG").rename(root / "train/a/two.JPEG")


def move(root: Path) -> None:
    (root / "train/a/one.JPEG").rename(root / "train/b/a.JPEG")


CHANGES = {
    "another size": lambda root: (root / "train/a/one.JPEG").write_bytes(b"x" * 30),
    "another name": rename,
    "another class": move,
    "one more": lambda root: (root / "val/b/two.png").touch(),
    "one less": lambda root: (root / "val/b/one.JPEG").unlink(),
    "another name of a class": lambda root: (root / "val/b").rename(root / "val/c"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_names_sizes_and_classes_are_in_it(folders: Path, name: str) -> None:
    before = fingerprint(IMAGENET, folders)
    CHANGES[name](folders / "imagenet")
    module._of_classes.cache_clear()  # the clock of a file system may be coarse
    assert fingerprint(IMAGENET, folders) != before
    assert before is not None


def test_what_is_no_image_is_not_in_it(folders: Path) -> None:
    before = fingerprint(IMAGENET, folders)
    (folders / "imagenet/train/a/notes.txt").touch()
    (folders / "imagenet/train/a/.hidden.png").touch()
    (folders / "imagenet/train/.cache").mkdir()
    module._of_classes.cache_clear()
    assert fingerprint(IMAGENET, folders) == before
    assert IMAGES == IMG_EXTENSIONS


def test_a_link_that_leads_nowhere_hides_nothing(folders: Path) -> None:
    before = fingerprint(IMAGENET, folders)
    (folders / "imagenet/train/a/link.png").symlink_to("nowhere")
    module._of_classes.cache_clear()
    assert fingerprint(IMAGENET, folders) not in (None, before)


def test_folders_are_read_once_until_they_change(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(IMAGENET, folders)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_files_in", None)
        assert fingerprint(IMAGENET, folders) == before
    (folders / "imagenet/train/a/two.JPEG").touch()
    os.utime(folders / "imagenet/train/a", ns=(1, 1))
    assert fingerprint(IMAGENET, folders) != before


def test_arrays_are_known_by_their_checksums(archives: Path) -> None:
    before = fingerprint(CIFAR, archives)
    images = np.zeros((20, 32, 32, 3), np.uint8)
    np.savez(archives / "cifar10/train.npz", images=images, labels=np.arange(20) % 10)
    assert fingerprint(CIFAR, archives) == before, "written again"
    images[3, 4, 5, 0] = 1
    np.savez(archives / "cifar10/train.npz", images=images, labels=np.arange(20) % 10)
    assert fingerprint(CIFAR, archives) not in (before, None)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK"])
def test_what_cannot_be_read_is_left_to_the_check_of_the_data(tmp_path: Path, content: bytes) -> None:
    for target in (IMAGENET, CIFAR, "qexp.data.datasets.Digits", "qexp.data.datasets.Synthetic", "nonsense"):
        assert fingerprint(target, tmp_path) is None
    for name in ("cifar10", "imagenet"):
        (tmp_path / name).mkdir()
    for split in ("train", "test"):
        (tmp_path / f"cifar10/{split}.npz").write_bytes(content)
    assert fingerprint(CIFAR, tmp_path) is None
    assert fingerprint(IMAGENET, tmp_path) is None


def test_two_folders_are_two_runs_and_a_download_is_one(configure: Configure, folders: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    words = ("dataset=imagenet", "model=resnet18", "dataset.classes=2")
    without, first = (configure(*words, f"data_dir={place}") for place in (other, folders))
    assert "digest" not in without.tree["dataset"]
    assert first.tree["dataset"]["digest"] == fingerprint(IMAGENET, folders)
    assert first.key != without.key
    assert "digest" not in first.dataset.options
    assert recorded_config(first.tree).key == first.key
    (folders / "imagenet").rename(folders / "gone")
    assert recorded_config(first.tree).key == first.key, "a record needs no data"
    assert configure("data_dir=/a").key == configure("data_dir=/b").key


def test_a_user_does_not_set_it(configure: Configure, folders: Path) -> None:
    words = ("dataset=imagenet", "dataset.classes=2", f"data_dir={folders}")
    assert configure(*words, "+dataset.digest=made-up").key == configure(*words).key
    assert configure("+dataset.digest=made-up").key == configure().key
