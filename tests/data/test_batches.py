"""Which images are held out of training: their choice written out, and what is left of a data set."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from qexp.data.batches import is_held_out
from qexp.data.images import Images
from qexp.data.loader import InMemory
from support.photographs import denormalized, epoch, for_testing, imagenet
from support.sources import CPU, RGB, random_images


def of_each_class(labels: np.ndarray, count: int) -> list[int]:
    """One of each class in turn, as long as it has two or more left."""
    left, taken = Counter(labels.tolist()), Counter({label: 0 for label in set(labels.tolist())})
    while sum(taken.values()) < count:
        for label in sorted(left):
            if left[label] > 1 and sum(taken.values()) < count:
                left[label], taken[label] = left[label] - 1, taken[label] + 1
    return [taken[label] for label in sorted(left)]


@pytest.mark.parametrize("sizes", [(5, 3, 7), (1, 1, 1), (2, 9, 2, 1), (4,), (0, 6, 0, 2)])
def test_equally_many_of_each_class_as_far_as_it_has_them_and_one_is_left(sizes: tuple[int, ...]) -> None:
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    for count in range(len(labels) - len(set(labels.tolist())) + 1):
        chosen = is_held_out(labels, count, seed=5)
        assert chosen.sum() == count
        own = Counter(labels[chosen].tolist())
        assert [own[label] for label in sorted(set(labels.tolist()))] == of_each_class(labels, count)


def test_the_choice_is_a_function_of_the_seed_and_any_image_may_be_it() -> None:
    labels = np.arange(60) % 3
    choices = [is_held_out(labels, 6, seed) for seed in range(200)]
    assert np.array_equal(choices[7], is_held_out(labels, 6, 7))
    assert not np.array_equal(choices[7], choices[8])
    often = np.sum(choices, axis=0)  # 20 each on average, with a deviation of 4.2
    assert often.min() > 4
    assert often.max() < 40


def test_images_in_memory_are_trained_on_or_held_out() -> None:
    everything = random_images(40)
    images = Images(everything.images, np.arange(40) % 4)
    whole = InMemory(images, random_images(3), 4, RGB["mean"], RGB["std"])
    data = whole.holding_out(10, seed=2)
    chosen = is_held_out(images.labels, 10, 2)
    train = data.train_batches(8, device=CPU, seed=0, crop=0, flip=False)
    kept = data.held_out_batches(4, device=CPU)
    assert (train.num_images, kept.num_images, len(kept)) == (30, 10, 3)
    found = torch.cat([batch for batch, _ in kept.epoch(0)])
    expected = InMemory(images, images.where(chosen), 4, RGB["mean"], RGB["std"]).test_batches(10, device=CPU)
    assert torch.equal(found, next(expected.epoch(0))[0])
    seen = {image.numpy().tobytes() for batch, _ in train.epoch(0) for image in batch}
    assert len(seen) == 30
    assert seen.isdisjoint(image.numpy().tobytes() for image in found)
    assert whole.train_batches(8, device=CPU, seed=0, crop=0, flip=False).num_images == 40


def test_photographs_are_trained_on_or_held_out_and_these_look_like_test_images(tree: Path) -> None:
    data = imagenet().load(tree).holding_out(6, 4)
    train = data.train_batches(3, device=CPU, seed=0, crop=0, flip=False, workers=0)
    kept = data.held_out_batches(4, device=CPU, workers=0)
    assert (train.num_images, kept.num_images) == (9, 6)
    images, labels = epoch(kept)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    labels_of_all = np.repeat([0, 1, 2], [5, 3, 7])
    files = sorted((tree / "imagenet" / "train").glob("*/*.JPEG"))
    chosen = [files[index] for index in np.flatnonzero(is_held_out(labels_of_all, 6, 4))]
    assert [kept._reader.files.path(index) for index in range(6)] == chosen
    others = [train._reader.files.path(index) for index in range(9)]
    assert sorted([*others, *chosen]) == files
    assert type(kept._reader.transform) is type(for_testing(tree)._reader.transform)
    assert repr(kept._reader.transform) == repr(for_testing(tree)._reader.transform)
    assert denormalized(kept, images).shape == (6, 16, 16, 3)
