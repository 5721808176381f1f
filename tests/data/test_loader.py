"""Batches of images that are held in memory."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import normalize, pil_to_tensor, to_pil_image, to_tensor

from qexp.data.batches import draw_seed
from qexp.data.images import Images
from qexp.data.loader import Loader
from qexp.utils.errors import UsageError
from support.sources import CPU, RGB, literal, random_images

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


# RandAugment


def augmenting(images: Images, magnitude: int, channels: int = 3) -> Loader:
    """A loader that leaves bytes as they are."""
    scale: dict = {"mean": [0] * channels, "std": [1 / 255] * channels}
    options: dict = {"batch_size": 4, "device": CPU, "seed": 3, "crop": 1, "flip": True, "shuffle": True}
    return Loader(images, **scale, **options, randaugment=magnitude)


def as_bytes(images: Tensor) -> Tensor:
    return images.round().to(torch.uint8)


@pytest.mark.parametrize(
    ("channels", "height", "width", "magnitude"), [(3, 32, 32, 9), (3, 6, 5, 30), (1, 8, 8, 14), (1, 1, 1, 1)]
)
def test_randaugment_is_torchvision_s_on_every_image_after_flip_and_crop(
    channels: int, height: int, width: int, magnitude: int
) -> None:
    """Its random numbers are a function of (seed, epoch, image), and no others are drawn."""
    images = random_images(10, height, width, channels)
    plain, found = augmenting(images, 0, channels), augmenting(images, magnitude, channels)
    transform = v2.RandAugment(num_ops=2, magnitude=magnitude)
    for number in range(6):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        pairs = list(zip(plain.epoch(number), found.epoch(number), strict=True))
        assert torch.equal(torch.get_rng_state(), before)
        for (own, labels), (augmented, same_labels) in pairs:
            assert torch.equal(labels, same_labels)
            assert augmented.is_contiguous(memory_format=torch.channels_last)
            for image, label, other in zip(as_bytes(own), labels, as_bytes(augmented), strict=True):
                torch.manual_seed(draw_seed(3, number, int(label) + 1))
                assert torch.equal(pil_to_tensor(transform(to_pil_image(image))), other)
        (own, _), (augmented, _) = pairs[0]
        assert height == 1 or not torch.equal(own, augmented)


def test_randaugment_begins_in_the_middle_of_an_epoch_as_it_goes_on_there() -> None:
    loader = augmenting(random_images(10), 9)
    whole = [images for images, _ in loader.epoch(1)]
    assert all(map(torch.equal, whole[2:], (images for images, _ in loader.epoch(1, 2))))
    assert not torch.equal(whole[0], next(loader.epoch(2))[0])
