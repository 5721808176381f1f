"""Sources of images, augmentation and loader."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qexp.config.schema import Invalid, parse
from qexp.data.datasets import MNIST, Cifar10, Cifar100, Digits, Source
from qexp.utils.errors import UsageError
from support.sources import CONF, source

# Sources


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_files_hold_every_option(path: Path) -> None:
    built = source(path.stem)
    assert len(built.mean) == len(built.std) == built.channels


def test_statistics_and_sizes_have_no_default_in_code() -> None:
    with pytest.raises(Invalid) as caught:
        parse(Cifar10, {})
    assert [problem.key for problem in caught.value.problems] == ["train_size", "test_size", "mean", "std"]


@pytest.mark.parametrize(
    ("kind", "expected"), [(Cifar10, (10, 3, 32)), (Cifar100, (100, 3, 32)), (MNIST, (10, 1, 28)), (Digits, (10, 1, 8))]
)
def test_shape_is_known_without_data(kind: type[Source], expected: tuple[int, int, int]) -> None:
    assert (kind.classes, kind.channels, kind.image_size) == expected


def test_digits_split_is_pinned(tmp_path: Path) -> None:
    data = source("digits").load(tmp_path / "unused")
    assert data.train.images.shape == (1437, 8, 8, 1)
    assert data.test.images.shape == (360, 8, 8, 1)
    assert data.train.labels[:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]
    assert data.test.labels[:12].tolist() == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1, 3, 7]
    assert (data.train.images.sum(), data.test.images.sum()) == (7_163_212, 1_790_589)
    assert not (tmp_path / "unused").exists()


def test_digits_statistics_are_those_of_the_training_images(tmp_path: Path) -> None:
    data = source("digits").load(tmp_path)
    pixels = data.train.images / 255
    assert data.mean == (pytest.approx(pixels.mean(), abs=5e-5),)
    assert data.std == (pytest.approx(pixels.std(), abs=5e-5),)


def test_sizes_take_the_first_images(tmp_path: Path) -> None:
    whole = source("digits").load(tmp_path)
    part = source("digits", train_size=7, test_size=5).load(tmp_path)
    assert np.array_equal(part.train.images, whole.train.images[:7])
    assert np.array_equal(part.test.labels, whole.test.labels[:5])


def test_synthetic_is_a_function_of_its_options(tmp_path: Path) -> None:
    first, again = source("synthetic").load(tmp_path), source("synthetic").load(tmp_path)
    other = source("synthetic", seed=1).load(tmp_path)
    longer = source("synthetic", train_size=600).load(tmp_path)
    assert np.array_equal(first.train.images, again.train.images)
    assert not np.array_equal(first.train.images, other.train.images)
    assert np.array_equal(first.test.images, longer.test.images)
    assert first.train.images.shape == (512, 8, 8, 3)
    assert np.bincount(first.test.labels, minlength=10).min() >= 25


def test_synthetic_shape_follows_its_options(tmp_path: Path) -> None:
    built = source("synthetic", image_size=5, channels=1, classes=3, train_size=9, test_size=6, mean=[0.5], std=[0.2])
    data = built.load(tmp_path)
    assert data.train.images.shape == (9, 5, 5, 1)
    assert data.classes == built.classes == 3
    assert sorted(data.test.labels) == [0, 0, 1, 1, 2, 2]


def test_synthetic_classes_can_be_told_apart(tmp_path: Path) -> None:
    """The nearest class mean of the training images names nearly every test image."""
    data = source("synthetic").load(tmp_path)
    train = data.train.images.reshape(512, -1).astype(float)
    means = np.stack([train[data.train.labels == label].mean(0) for label in range(10)])
    test = data.test.images.reshape(256, 1, -1).astype(float)
    nearest = ((test - means) ** 2).sum(2).argmin(1)
    assert (nearest == data.test.labels).mean() > 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 2000}, "dataset.train_size=2000: digits has 1437 training images"),
        ({"test_size": 361}, "dataset.test_size=361: digits has 360 test images"),
        ({"mean": [0.5, 0.5]}, "dataset.mean=[0.5,0.5]: digits needs 1, one per channel"),
        ({"std": []}, "dataset.std=[]: digits needs 1, one per channel"),
    ],
)
def test_options_that_do_not_fit_the_data_are_named(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        source("digits", **changes).prepare(tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "first"), [("cifar10", [6, 9, 9, 4, 1]), ("mnist", [5, 0, 4, 1, 9])])
def test_real_data_have_their_known_labels_and_statistics(name: str, first: list[int], offline: list) -> None:
    data_dir = Path(os.environ.get("QEXP_DATA", "missing"))
    built: Any = source(name)
    if not (data_dir / name / "train.npz").is_file() and not built.download.complete(data_dir):
        pytest.skip("QEXP_DATA names no folder with these data")
    data = built.load(data_dir)
    assert data.train.labels[:5].tolist() == first
    pixels = data.train.images[::10] / 255
    assert pixels.mean((0, 1, 2)) == pytest.approx(data.mean, abs=0.01)
    assert pixels.std((0, 1, 2)) == pytest.approx(data.std, abs=0.01)
