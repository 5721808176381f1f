"""Sources of images, augmentation and loader."""

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import normalize, to_tensor

from qexp.config.schema import Invalid, parse
from qexp.data.augment import flip_and_crop
from qexp.data.datasets import MNIST, Cifar10, Cifar100, Digits, Images, Source
from qexp.data.loader import Loader
from qexp.utils.errors import UsageError
from support.sources import CONF, source

CPU = torch.device("cpu")
RGB: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


def random_images(count: int, height: int = 6, width: int = 5, channels: int = 3) -> Images:
    """Images whose labels are their numbers."""
    pixels = np.random.RandomState(0).randint(0, 256, (count, height, width, channels)).astype(np.uint8)
    return Images(pixels, np.arange(count))


def write_pair(folder: Path, train: int = 6, test: int = 4, **changes: Any) -> None:
    """Write the npz files of a tiny CIFAR-10, with changed arrays in the training file."""
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        images = np.random.RandomState(count).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        arrays = {"images": images, "labels": np.arange(count) % 10, **(changes if name == "train" else {})}
        np.savez(folder / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Let every connection fail; the list collects the socket timeouts that were set then."""
    timeouts: list[float | None] = []

    def refuse(*_: Any, **__: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return timeouts


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


def test_half_a_pair_and_a_damaged_file_are_usage_errors(tmp_path: Path) -> None:
    write_pair(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "train.npz").write_bytes(b"not a zip file")
    with pytest.raises(UsageError, match="not a readable npz file"):
        source("cifar10").prepare(tmp_path)
    (tmp_path / "cifar10" / "train.npz").unlink()
    with pytest.raises(UsageError, match="train.npz is missing beside it"):
        source("cifar10").prepare(tmp_path)


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


# Augmentation


def literal(image: np.ndarray, flip: bool, top: int, left: int, crop: int) -> np.ndarray:
    """Flip, pad, crop: one image, step by step."""
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)))
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


@pytest.mark.parametrize("crop", [0, 1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_crop_equals_a_loop_over_images(crop: int, channels: int) -> None:
    images = random_images(40, channels=channels).images
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(0, 40, (64,), generator=generator)
    flips = torch.rand(64, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * crop + 1, (64, 2), generator=generator)
    padded = torch.from_numpy(np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0))))
    result = flip_and_crop(padded, picks, flips, offsets, crop)
    assert result.dtype == torch.uint8
    for index in range(64):
        top, left = offsets[index].tolist()
        expected = literal(images[picks[index]], bool(flips[index]), top, left, crop)
        assert np.array_equal(result[index].numpy(), expected)


# Loader


def epoch(loader: Loader, number: int = 0) -> tuple[Tensor, Tensor]:
    """All batches of an epoch in one."""
    images, labels = zip(*loader.epoch(number), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_batches_equal_torchvision_normalisation_of_every_byte() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1).repeat(3, axis=3)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    loader = Loader(Images(pixels, np.arange(4)), mean=mean, std=std, batch_size=3, device=CPU)
    images, labels = epoch(loader)
    expected = torch.stack([normalize(to_tensor(image), mean, std) for image in pixels])
    assert images.dtype == torch.float32
    assert labels.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)


def test_batches_are_channels_last() -> None:
    loader = Loader(random_images(4), **RGB, batch_size=4, device=CPU, crop=1)
    images, _ = next(loader.epoch(0))
    assert images.shape == (4, 3, 6, 5)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("count", "shuffle", "drop_last", "expected"),
    [
        (11, False, False, [4, 4, 3]),
        (11, True, True, [4, 4]),
        (12, True, False, [4, 4, 4]),
        (9, False, False, [4, 4, 1]),
        (9, True, False, [4, 4]),
        (1, True, False, [1]),
    ],
)
def test_batch_sizes(count: int, shuffle: bool, drop_last: bool, expected: list[int]) -> None:
    loader = Loader(random_images(count), **RGB, batch_size=4, device=CPU, shuffle=shuffle, drop_last=drop_last)
    assert [len(labels) for _, labels in loader.epoch(0)] == expected
    assert len(loader) == len(expected)
    assert loader.num_images == count


def test_no_batch_at_all_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="batch_size=4: 3 images give no full batch"):
        Loader(random_images(3), **RGB, batch_size=4, device=CPU, drop_last=True)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    def make(seed: int) -> Loader:
        return Loader(random_images(50), **RGB, batch_size=8, device=CPU, seed=seed, crop=1, flip=True, shuffle=True)

    loader = make(3)
    first, labels = epoch(loader, 5)
    epoch(loader, 6)
    torch.rand(3)
    assert torch.equal(first, epoch(loader, 5)[0])
    assert torch.equal(first, epoch(make(3), 5)[0])
    assert sorted(labels.tolist()) == list(range(50))
    assert labels.tolist() != epoch(loader, 6)[1].tolist()
    assert labels.tolist() != epoch(make(4), 5)[1].tolist()
    assert epoch(make(5), 3)[1].tolist() != labels.tolist()


def test_augmented_images_are_flips_and_crops_of_their_originals() -> None:
    """All 18 variants of an image occur, about equally often, and nothing else does."""
    images = random_images(30, height=3, width=4)
    loader = Loader(images, mean=[0] * 3, std=[1 / 255] * 3, batch_size=7, device=CPU, crop=1, flip=True, shuffle=True)
    variants = [(flip, top, left) for flip in (False, True) for top in range(3) for left in range(3)]
    seen = dict.fromkeys(variants, 0)
    for number in range(30):
        for pixels, label in zip(*epoch(loader, number), strict=True):
            found = pixels.permute(1, 2, 0).round().to(torch.uint8).numpy()
            matches = [v for v in variants if np.array_equal(literal(images.images[label], *v, 1), found)]
            assert len(matches) == 1
            seen[matches[0]] += 1
    total = sum(seen.values())
    assert min(seen.values()) > 0.5 * total / 18
    assert max(seen.values()) < 1.6 * total / 18


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = random_images(9)
    loader = Loader(images, mean=[0] * 3, std=[1 / 255] * 3, batch_size=4, device=CPU, shuffle=True)
    for pixels, label in zip(*epoch(loader), strict=True):
        assert np.array_equal(pixels.permute(1, 2, 0).round().numpy(), images.images[label])


def test_wrong_number_of_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values each, got 1 and 3"):
        Loader(random_images(3), mean=[0.5], std=[1, 1, 1], batch_size=2, device=CPU)
