"""ImageNet, on a small tree of small images: what is found, what the network sees, and what is refused."""

import itertools
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from qexp.data import folder as module
from qexp.data.batches import draw_seed
from qexp.data.folder import FileBatches, ImageFiles, find_images
from qexp.utils.errors import QexpError, UsageError
from support.limits import within
from support.photographs import COUNTS, CPU, REASONS, broken, denormalized, epoch, for_testing, for_training, imagenet

# What is found


def test_images_and_labels_are_those_of_torchvisions_image_folder(tree: Path) -> None:
    for split in ("train", "val"):
        found = find_images(tree / "imagenet" / split)
        theirs = torchvision.datasets.ImageFolder(
            tree / "imagenet" / split, is_valid_file=lambda path: path.endswith(".JPEG"), allow_empty=True
        )
        assert [str(found.path(index)) for index in range(len(found))] == [path for path, _ in theirs.samples]
        assert [found.classes[label] for label in found.labels] == [
            theirs.classes[label] for _, label in theirs.samples
        ]
        assert found.classes == ("n01", "n02", "n03")


def slowly_spread(labels: list[int], count: int) -> list[int]:
    """Take one image of each class in turn."""
    queues = [[index for index, label in enumerate(labels) if label == own] for own in sorted(set(labels))]
    turns = [index for turn in itertools.zip_longest(*queues) for index in turn if index is not None]
    return sorted(turns[:count])


@pytest.mark.parametrize("sizes", [(5, 3, 7), (1, 1, 1), (2, 9, 2, 1), (4,)])
def test_a_part_takes_equally_many_of_each_class_as_far_as_it_has_them(sizes: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = np.array([b"%d" % index for index in range(len(labels))])
    files = ImageFiles(Path("x"), tuple(map(str, range(len(sizes)))), names, labels)
    for count in range(1, len(labels) + 1):
        expected = slowly_spread(labels.tolist(), count)
        part = files.spread(count)
        assert [int(name) for name in part.names] == expected
        assert part.labels.tolist() == labels[expected].tolist()
    assert files.spread(None).names.tolist() == names.tolist()


def test_sizes_choose_from_the_tree(tree: Path) -> None:
    data = imagenet(train_size=6, test_size=4).load(tree)
    train = data.train_batches(2, device=CPU, seed=0, crop=0, flip=False, workers=0)
    test = data.test_batches(3, device=CPU, workers=0)
    assert (train.num_images, len(train), test.num_images, len(test)) == (6, 3, 4, 2)
    assert sorted(epoch(train)[1].tolist()) == [0, 0, 1, 1, 2, 2]
    assert epoch(test)[1].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(("batch_size", "expected"), [(4, [4, 4, 4, 3]), (7, [7, 7]), (15, [15]), (20, [15])])
def test_a_last_batch_of_one_image_is_dropped_in_training(tree: Path, batch_size: int, expected: list[int]) -> None:
    batches = for_training(tree, batch_size)
    assert [len(labels) for _, labels in batches.epoch(0)] == expected
    assert len(batches) == len(expected)
    assert batches.num_images == 15


def test_no_test_image_is_dropped(tree: Path) -> None:
    assert [len(labels) for _, labels in for_testing(tree, 6).epoch(0)] == [6, 1]


def test_a_name_may_hold_any_character(own_tree: Path) -> None:
    folder = own_tree / "imagenet" / "val" / "n01"
    (folder / "n01_0.JPEG").rename(folder / "n01 ä\u2603.jpeg")
    assert find_images(own_tree / "imagenet" / "val").path(0).name == "n01 ä\u2603.jpeg"
    assert epoch(for_testing(own_tree))[1].tolist() == [0, 0, 1, 1, 2, 2, 2]


# What the network sees


def test_test_images_are_those_that_torchvision_measures_its_weights_on(tree: Path) -> None:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    images, labels = epoch(for_testing(tree, image_size=224, resize=256))
    files = sorted((tree / "imagenet" / "val").glob("*/*.JPEG"))
    expected = torch.stack([weights.transforms()(Image.open(path)) for path in files])
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 2]


def literal_window(path: Path, seed: int, size: int, flip: bool) -> np.ndarray:
    """torchvision's first transforms, step by step, with torch's own generator."""
    image = Image.open(path).convert("RGB")
    torch.manual_seed(seed)
    top, left, height, width = v1.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    mirrored = flip and torch.rand(1).item() < 0.5
    image = F.resized_crop(image, top, left, height, width, [size, size], F.InterpolationMode.BILINEAR)
    return np.asarray(F.hflip(image) if mirrored else image)


@pytest.mark.parametrize("flip", [False, True])
def test_training_images_are_random_windows_as_a_loop_makes_them(tree: Path, flip: bool) -> None:
    batches = for_training(tree, flip=flip)
    files = sorted((tree / "imagenet" / "train").glob("*/*.JPEG"))
    for number in (0, 2):
        images, labels = epoch(batches, number)
        order = torch.randperm(15, generator=torch.Generator().manual_seed(draw_seed(3, number)))
        expected = [literal_window(files[i], draw_seed(3, number, int(i) + 1), 16, flip) for i in order]
        assert np.array_equal(denormalized(batches, images).numpy(), np.stack(expected))
        assert [sorted(COUNTS["train"])[label] for label in labels] == [files[i].parent.name for i in order]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_randaugment_comes_after_window_and_flip(tree: Path, workers: int) -> None:
    batches = for_training(tree, flip=True, randaugment=9, workers=workers)
    files = sorted((tree / "imagenet" / "train").glob("*/*.JPEG"))
    transform = v2.RandAugment(num_ops=2, magnitude=9)
    images, _ = epoch(batches, 1)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(draw_seed(3, 1)))
    expected = []
    for index in order:
        window = literal_window(files[index], draw_seed(3, 1, int(index) + 1), 16, True)
        expected.append(np.asarray(transform(Image.fromarray(window))))  # goes on with the same generator
    assert np.array_equal(denormalized(batches, images).numpy(), np.stack(expected))


def test_batches_are_floats_and_channels_last(tree: Path) -> None:
    for batches in (for_training(tree), for_testing(tree)):
        images, labels = next(batches.epoch(0))
        assert (images.shape, images.dtype, labels.dtype) == ((4, 3, 16, 16), torch.float32, torch.int64)
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_reads_the_same(tree: Path, workers: int) -> None:
    for make in (for_training, for_testing):
        images, labels = epoch(make(tree, workers=0), 2)
        theirs, their_labels = epoch(make(tree, workers=workers), 2)
        assert torch.equal(theirs, images)
        assert torch.equal(their_labels, labels)


def test_an_epoch_is_a_function_of_seed_and_number(tree: Path) -> None:
    batches = for_training(tree)
    first, labels = epoch(batches, 5)
    other, other_labels = epoch(batches, 6)
    torch.rand(3)
    assert torch.equal(first, epoch(batches, 5)[0])
    assert torch.equal(first, epoch(for_training(tree, batch_size=5), 5)[0])
    assert not torch.equal(first, epoch(for_training(tree, seed=4), 5)[0])
    assert sorted(labels.tolist()) == sorted(other_labels.tolist()) == [0] * 5 + [1] * 3 + [2] * 7
    assert labels.tolist() != other_labels.tolist()
    # The same image has another window in another epoch, also where it happens to come at the same place.
    assert not {part.numpy().tobytes() for part in first} & {part.numpy().tobytes() for part in other}


@pytest.mark.process
def test_two_epochs_can_be_read_side_by_side(tree: Path) -> None:
    """Nothing of an epoch is kept in the object, so that an evaluation may begin before another has ended."""
    batches = for_training(tree, workers=1)
    both = list(zip(batches.epoch(0), batches.epoch(1), strict=True))
    for number in (0, 1):
        assert torch.equal(torch.cat([pair[number][0] for pair in both]), epoch(batches, number)[0])


def test_batches_survive_the_way_into_another_process(tree: Path) -> None:
    """Where worker processes are not forked: on macOS, and from Python 3.14 on."""
    batches = for_training(tree)
    copy = pickle.loads(pickle.dumps(batches))
    assert torch.equal(epoch(copy)[0], epoch(batches)[0])


@pytest.mark.process
@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_nothing_from_the_generator_of_the_network(tree: Path, workers: int) -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    epoch(for_training(tree, workers=workers))
    assert torch.equal(torch.rand(4), expected)


def test_gray_and_cmyk_images_become_rgb(own_tree: Path) -> None:
    """ImageNet holds both, and a PNG that is called JPEG."""
    folder = own_tree / "imagenet" / "val" / "n01"
    for mode, name in (("L", "n01_0.JPEG"), ("CMYK", "n01_1.JPEG")):
        Image.new("RGB", (24, 24), (200, 200, 200)).convert(mode).save(folder / name, quality=100)
    Image.new("RGB", (24, 24), (200, 200, 200)).save(folder / "n01_2.JPEG", format="PNG")
    batches = for_testing(own_tree, 3)
    images = denormalized(batches, next(batches.epoch(0))[0]).int()
    assert (images - 200).abs().max() <= 2


def test_what_pillow_warns_of_is_not_printed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names no file, and comes between the lines of a command; a warning would be an error here."""
    sizes = []
    for path in (tree / "imagenet" / "val").glob("*/*.JPEG"):
        with Image.open(path) as image:
            sizes.append(image.width * image.height)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", max(sizes) - 1)
    assert len(epoch(for_testing(tree))[1]) == len(sizes) == 7


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_on_the_cpu(tree: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    gpu = torch.device("cuda")
    for workers in (0, 2):
        images, labels = epoch(for_training(tree, device=gpu, workers=workers), 1)
        ours, our_labels = epoch(for_training(tree), 1)
        assert images.device.type == "cuda"
        torch.testing.assert_close(images.cpu(), ours, rtol=0, atol=1e-6)
        assert torch.equal(labels.cpu(), our_labels)


def test_a_folder_without_permission_is_one_line(own_tree: Path, refused: Callable[..., str]) -> None:
    folder = own_tree / "imagenet" / "val" / "n02"
    folder.chmod(0)
    if os.access(folder, os.R_OK):
        folder.chmod(0o755)
        pytest.skip("this user may read everything")
    try:
        line = refused()
    finally:
        folder.chmod(0o755)
    assert line == f"{folder}: cannot be read (Permission denied)"


@pytest.mark.process
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["cut", "empty", "text", "missing", "pipe", "bomb", "tiff"])
def test_a_broken_image_ends_in_one_line_that_names_it(
    own_tree: Path, kind: str, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only training finds it: looking into 1.3 million files beforehand would take an hour."""
    imagenet().prepare(own_tree)
    batches = for_training(own_tree, workers=workers)
    path = broken(own_tree / "imagenet" / "train" / "n02", kind)
    with pytest.raises(QexpError) as caught:
        epoch(batches)
    line = str(caught.value)
    found = re.fullmatch(r"(.*): cannot be read as an image \((.*)\); replace or remove it", line)
    assert found
    assert found[1] == str(path)
    assert re.fullmatch(REASONS[kind], found[2]), found[2]
    assert "\n" not in line
    assert not isinstance(caught.value, UsageError)  # the run has begun: exit code 1
    assert capfd.readouterr().err == ""


@pytest.mark.process
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_any_kind_names_its_file(tree: Path, workers: int) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise RecursionError("deep")

    batches = FileBatches(
        find_images(tree / "imagenet" / "val"),
        fail,
        image_size=8,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        batch_size=7,
        device=CPU,
        workers=workers,
    )
    with pytest.raises(QexpError, match=r"n01/.*: cannot be read as an image \(deep\); replace or remove it"):
        epoch(batches)


@pytest.mark.process
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_what_would_end_a_worker_names_its_file(tree: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(path: Path) -> Image.Image:
        raise error

    monkeypatch.setattr(module, "load_image", fail)
    with within(20), pytest.raises(QexpError, match=r"n0\d/.*: cannot be read as an image"):
        epoch(for_training(tree, workers=2))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore")  # torch's own thread in the process that lost its worker
def test_a_worker_that_is_killed_ends_the_run_at_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_image", lambda path: os._exit(9))
    with within(20), pytest.raises(QexpError, match=r"a process that decodes images died .*workers=0 tells which"):
        epoch(for_training(tree, workers=1))


def test_file_batches_need_no_configuration(tree: Path) -> None:
    """As a library: any transform that draws from torch's generator."""
    batches = FileBatches(
        find_images(tree / "imagenet" / "val"),
        v1.Resize((8, 8)),
        image_size=8,
        mean=(0.0,) * 3,
        std=(1 / 255,) * 3,
        batch_size=7,
        device=CPU,
        workers=0,
    )
    (batch,) = batches.epoch(0)
    path = tree / "imagenet" / "val" / "n01" / "n01_0.JPEG"
    expected = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(batch[0][0].permute(1, 2, 0).round().numpy(), expected)
