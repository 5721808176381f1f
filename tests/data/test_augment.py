"""Flips and crops against a loop over images; mixed images against torchvision's transforms."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from qexp.data.augment import Augmented, Mixed, flip_and_crop, paste
from qexp.data.loader import Loader
from qexp.engine.metrics import Tally
from qexp.engine.step import cross_entropy
from qexp.utils.errors import QexpError
from support.sources import CPU, RGB, literal, random_images


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


# Mixed images


def loader() -> Loader:
    return Loader(random_images(30), **RGB, batch_size=8, device=CPU, seed=3, shuffle=True)


def mixed(mixup: float = 0.0, cutmix: float = 0.0, seed: int = 3) -> Mixed:
    return Mixed(loader(), classes=30, mixup=mixup, cutmix=cutmix, seed=seed)


def share_of(own: Tensor, labels: Tensor) -> float:
    """The share that an image keeps of itself, as its label says."""
    (share,) = {float(row[label]) for row, label in zip(own, labels, strict=True)}
    return share


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.7, 0.0), (0.0, 1.0)])
def test_a_mixed_batch_is_that_of_torchvision_for_the_same_draw(mixup: float, cutmix: float) -> None:
    transform = v2.MixUp(num_classes=30) if mixup else v2.CutMix(num_classes=30)
    pairs = list(zip(loader().epoch(5), mixed(mixup, cutmix).epoch(5), strict=True))
    for (images, labels), (found, probabilities) in pairs:
        share = share_of(probabilities, labels)
        params = {"lam": share, "lam_adjusted": share, "labels": labels, "batch_size": len(labels)}
        if cutmix:
            where = (found != images).any(0).any(0)  # the smallest box around what another image covers
            rows, columns = where.any(1).nonzero().flatten().tolist(), where.any(0).nonzero().flatten().tolist()
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 0, 0)
            assert share == pytest.approx(1 - (box[2] - box[0]) * (box[3] - box[1]) / 30)
            params["box"] = box
        close = {"rtol": 0, "atol": 1e-6 if mixup else 0}  # the share that the label tells is in single precision
        torch.testing.assert_close(found, transform.transform(images, params), **close)
        torch.testing.assert_close(probabilities, transform.transform(labels, params), rtol=0, atol=1e-6)
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert len({share_of(probabilities, labels) for (_, labels), (_, probabilities) in pairs}) > 1


@pytest.mark.parametrize(
    ("share", "row", "column", "expected"),
    [
        (0.75, 4, 4, (2, 6, 3, 5)),  # half = 0.25, of 8 rows and of 7 columns: 2 and 1
        (0.75, 0, 6, (0, 2, 5, 7)),
        (0.0, 4, 3, (0, 8, 0, 6)),
        (1.0, 4, 3, (0, 0, 0, 0)),
    ],
)
def test_a_box_lies_around_its_middle_and_is_cut_off_at_the_borders(
    share: float, row: int, column: int, expected: tuple[int, int, int, int]
) -> None:
    images = torch.arange(3.0)[:, None, None, None].expand(3, 2, 8, 7).clone()
    kept = images.clone()
    found, left = paste(images, share, row=row, column=column)
    top, bottom, first, end = expected
    reference = images.clone()
    for number in range(3):
        reference[number, :, top:bottom, first:end] = (number - 1) % 3
    assert torch.equal(found, reference)
    assert torch.equal(images, kept)
    assert left == pytest.approx(1 - (bottom - top) * (end - first) / 56)


def test_draws_are_a_function_of_seed_epoch_and_batch() -> None:
    """Also from the middle of an epoch on, which is where a run resumes; and other random numbers play no part."""
    whole = list(mixed(0.5, 0.5).epoch(2))
    torch.rand(5), np.random.rand(5)
    for start in range(4):
        rest = list(mixed(0.5, 0.5).epoch(2, start))
        assert len(rest) == 4 - start
        for one, other in zip(whole[start:], rest, strict=True):
            assert all(map(torch.equal, one, other))
    shares = {float(labels.max()) for _, labels in mixed(0.5).epoch(2)}
    assert len(shares) == 4
    for other in (mixed(0.5).epoch(3), mixed(0.5, seed=4).epoch(2)):
        assert not shares & {float(labels.max()) for _, labels in other}


def test_with_both_a_coin_chooses_for_each_batch_and_shares_are_beta_distributed() -> None:
    """Beta(a, a) has the variance 1/(8 a + 4); CutMix leaves a whole number of 30 pixels, mixup hardly ever does."""

    def shares(mixup: float, cutmix: float) -> Iterator[float]:
        loaded, found = loader(), mixed(mixup, cutmix)
        for number in range(100):
            for (_, labels), (_, probabilities) in zip(loaded.epoch(number), found.epoch(number), strict=True):
                yield share_of(probabilities, labels)

    def cuts(found: Iterator[float]) -> int:
        return sum(abs(30 * share - round(30 * share)) < 1e-4 for share in found)

    assert 160 < cuts(shares(1.0, 1.0)) < 240
    assert cuts(shares(0.0, 1.0)) == 400
    drawn = torch.tensor(list(shares(0.5, 0.0)))
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.06)
    assert drawn.var().item() == pytest.approx(1 / 8, abs=0.03)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixed_batch_is_that_of_both_labels_by_their_shares(smoothing: float) -> None:
    (_, labels), (_, probabilities) = next(loader().epoch(0)), next(mixed(1.0).epoch(0))
    logits, share = torch.randn(8, 30), share_of(probabilities, labels)
    of_one = nn.CrossEntropyLoss(label_smoothing=smoothing)
    expected = share * of_one(logits, labels) + (1 - share) * of_one(logits, labels.roll(1))
    torch.testing.assert_close(cross_entropy(smoothing)(logits, probabilities), expected)


def test_the_larger_label_of_a_mixed_image_is_its_answer() -> None:
    tally = Tally(CPU)
    labels = torch.tensor([[0.7, 0.3, 0.0], [0.4, 0.6, 0.0], [0.0, 0.1, 0.9]])
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    tally.add(logits, labels, torch.tensor(1.0))
    assert (tally.read()[0].correct, tally.read()[0].images) == (2, 3)


# Of one's own


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """One draw from the generator it is given, one from torch's default, as torchvision's transforms."""
    return images.mul_(torch.rand((), generator=generator)) + torch.rand(())


def epoch_of(batches: Augmented, epoch: int, start: int = 0) -> list[Tensor]:
    return [images for images, _ in batches.epoch(epoch, start)]


def test_an_own_augmentation_is_a_function_of_seed_epoch_and_batch() -> None:
    """And leaves torch's generator, the order of images and the labels alone."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = epoch_of(Augmented(loader(), noisy, seed=3), 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(17)
    again = epoch_of(Augmented(loader(), noisy, seed=3), 2, start=1)
    assert len(again) == len(found) - 1
    assert all(torch.equal(one, other) for one, other in zip(found[1:], again, strict=True))
    for seed, epoch in ((3, 3), (4, 2)):
        others = epoch_of(Augmented(loader(), noisy, seed=seed), epoch)
        assert not any(torch.equal(one, other) for one, other in zip(found, others, strict=True))
    for (images, labels), (plain, expected) in zip(
        Augmented(loader(), noisy, seed=3).epoch(2), loader().epoch(2), strict=True
    ):
        assert torch.equal(labels, expected)
        share = (images.max() - images.min()) / (plain.max() - plain.min())  # images are plain * share + shift
        torch.testing.assert_close(images, plain * share + (images.min() - plain.min() * share))
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert (len(Augmented(loader(), noisy, 0)), Augmented(loader(), noisy, 0).num_images) == (
        len(loader()),
        loader().num_images,
    )


def test_each_batch_draws_numbers_of_its_own() -> None:
    shares = [
        float(images.max()) for images in epoch_of(Augmented(loader(), lambda x, g: x * 0 + torch.rand(()), 3), 2)
    ]
    assert len(set(shares)) == len(shares) > 1


def test_what_is_no_batch_is_told_with_its_place() -> None:
    wrong = Augmented(loader(), lambda images, _: images[1:], seed=0)
    with pytest.raises(
        QexpError, match=r"^recipe\.augment: gives a tensor .*must keep the shape, in epoch 4, batch 2$"
    ):
        next(wrong.epoch(3, 1))
