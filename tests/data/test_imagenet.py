"""ImageNet: which trees are refused, and runs on a small one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qexp.utils.errors import UsageError
from support.photographs import OPTIONS, broken, for_testing, for_training, imagenet
from support.sources import source


def test_a_whole_tree_is_accepted_and_one_image_more_is_not(own_tree: Path) -> None:
    assert imagenet().counts(own_tree) == (15, 7)  # the other files there are hidden, or no images
    imagenet(train_size=15, test_size=7).prepare(own_tree)
    with pytest.raises(UsageError, match="has 15 training images"):
        imagenet(train_size=16).prepare(own_tree)


def test_no_tree_says_what_is_expected_and_that_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        imagenet().prepare(tmp_path / "a")
    line = str(caught.value)
    for part in (tmp_path / "a" / "imagenet", "{train,val}/<class>/*.JPEG", "does not download", "data_dir=PATH"):
        assert str(part) in line
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_needs_no_tree_but_looks_at_one_that_is_there(own_tree: Path, tmp_path: Path) -> None:
    imagenet(classes=1000).prepare(tmp_path / "nowhere", download=False)
    with pytest.raises(UsageError, match="classes=1000"):
        imagenet(classes=1000).prepare(own_tree, download=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(own_tree: Path, refused: Callable[..., str], split: str) -> None:
    shutil.rmtree(own_tree / "imagenet" / split)
    expected = f"{own_tree}/imagenet/{{train,val}}/<class>/*.JPEG"
    assert refused() == f"imagenet: there is no folder {own_tree}/imagenet/{split}; expected {expected}"


def test_an_empty_class_is_named(own_tree: Path, refused: Callable[..., str]) -> None:
    folder = own_tree / "imagenet" / "val" / "n02"
    for image in folder.glob("*.JPEG"):
        image.unlink()
    assert refused() == f"{folder}: the folder of this class holds no images"


def test_images_without_class_folders_are_refused(own_tree: Path, refused: Callable[..., str]) -> None:
    """As ILSVRC2012_img_val.tar unpacks."""
    val = own_tree / "imagenet" / "val"
    for folder in val.glob("n*"):
        for image in folder.glob("*.JPEG"):
            image.rename(val / image.name)
        shutil.rmtree(folder)
    shutil.rmtree(val / ".cache")
    assert refused() == f"{val}: holds no folders; expected one for each class, with its images"


def test_classes_that_differ_are_named(own_tree: Path, refused: Callable[..., str]) -> None:
    root = own_tree / "imagenet"
    (root / "val" / "n02").rename(root / "val" / "n05")
    message = f"{root}: train and val have different classes; {root}/val lacks n02; {root}/train lacks n05"
    assert refused() == message


def test_another_number_of_classes_is_refused_with_both_numbers(own_tree: Path, refused: Callable[..., str]) -> None:
    assert refused(classes=1000) == f"dataset.classes=1000: {own_tree}/imagenet/train has 3 class folders"


def test_sizes_beyond_the_tree_are_refused(own_tree: Path, refused: Callable[..., str]) -> None:
    assert refused(train_size=16) == "dataset.train_size=16: imagenet has 15 training images"
    assert refused(test_size=8) == "dataset.test_size=8: imagenet has 7 test images"
    with pytest.raises(UsageError, match="dataset.test_size=8: imagenet has 7"):
        for_testing(own_tree, test_size=8)


def test_statistics_that_do_not_fit_are_refused(own_tree: Path, refused: Callable[..., str]) -> None:
    message = "dataset.std=[0.5]: imagenet needs 3, one per channel"
    assert refused(std=[0.5]) == message
    with pytest.raises(UsageError) as caught:
        imagenet(std=[0.5]).load(own_tree)
    assert str(caught.value) == message


def test_a_test_image_cannot_be_smaller_than_its_centre() -> None:
    with pytest.raises(UsageError, match="^dataset.resize=8: must be at least dataset.image_size=16$"):
        imagenet(resize=8)


def test_a_crop_that_would_have_no_effect_is_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="^recipe.crop=4: imagenet cuts random windows of its own; .* recipe.crop=0$"):
        for_training(tree, crop=4)
    imagenet().check_crop(0)
    source("digits").check_crop(4)


def test_randaugment_needs_channels_that_pictures_have() -> None:
    for channels in (1, 3):
        source("synthetic", channels=channels).check_randaugment(9)
    source("synthetic", channels=2).check_randaugment(0)
    with pytest.raises(UsageError) as caught:
        source("synthetic", channels=2).check_randaugment(9)
    assert str(caught.value) == "recipe.randaugment=9: is for images of 1 or 3 channels; those of synthetic have 2"


# From the command line

COMMAND = (
    "dataset=imagenet",
    *(f"dataset.{key}={value}" for key, value in OPTIONS.items()),
    "dataset.train_size=null",
    "dataset.test_size=null",
    "recipe.batch_size=4",
    "recipe.eval_batch_size=4",
    "quantizer=ste",
    "init=scratch",
)


@pytest.fixture
def words(own_tree: Path) -> tuple[str, ...]:
    return (*COMMAND, f"data_dir={own_tree}")


def results(path: Path) -> Iterator[Tensor]:
    yield from torch.load(path / "last.pt", weights_only=True)["model"].values()


@pytest.mark.training
def test_workers_change_neither_the_run_nor_its_key(
    train: Callable[..., Any], only_run: Callable[..., Path], words: tuple[str, ...]
) -> None:
    assert train(*words, "workers=2").code == 0
    first = list(results(only_run("ste")))
    assert train(*words, "workers=0").out.startswith("already done")
    assert train(*words, "workers=0", "overwrite=true").code == 0
    assert all(torch.equal(old, new) for old, new in zip(first, results(only_run("ste")), strict=True))


def test_mistakes_come_before_anything_is_created(train: Callable[..., Any], words: tuple[str, ...]) -> None:
    result = train(*words, "recipe.crop=4", "dataset.classes=4")
    assert (result.code, result.out) == (2, "")
    assert [line.partition("error: ")[2].partition(":")[0] for line in result.errors] == [
        "recipe.crop=4",
        "dataset.classes=4",
    ]
    assert list(Path().iterdir()) == []


@pytest.mark.training
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_fails_the_run(
    train: Callable[..., Any], only_run: Callable[..., Path], words: tuple[str, ...], own_tree: Path, workers: int
) -> None:
    path = broken(own_tree / "imagenet" / "train" / "n02", "cut")
    result = train(*words, f"workers={workers}")
    assert result.code == 1
    (line,) = result.errors
    assert line.startswith(f"qexp train: error: {path}: cannot be read as an image (")
    assert (only_run("ste") / "error.txt").exists()


@pytest.mark.training
def test_a_run_can_be_evaluated_where_only_val_lies(
    train: Callable[..., Any], qexp: Callable[..., Any], only_run: Callable[..., Path], words: tuple[str, ...]
) -> None:
    assert train(*words).code == 0
    data_dir = next(word for word in words if word.startswith("data_dir=")).partition("=")[2]
    shutil.rmtree(f"{data_dir}/imagenet/train")
    result = qexp("eval", str(only_run("ste")), "device=cpu")
    assert (result.code, result.err) == (0, "")
    assert "of 7 images (imagenet)" in result.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (90, 256, "scratch", 1.0, 0, None)),
        (("protocol=short",), (20, 256, "scratch", 0.25, 0, 10000)),
        (("protocol=smoke",), (1, 32, "scratch", 0.125, 0, 256)),
    ],
)
def test_the_recipe_is_that_of_the_dqa_paper(
    configure: Callable[..., Any], words: tuple[str, ...], expected: tuple
) -> None:
    config = configure("dataset=imagenet", "quantizer=dqa", *words)
    recipe = config.recipe
    found = (recipe.epochs, recipe.batch_size, config.init, config.model.options["width"], recipe.crop)
    assert (*found, config.dataset.options["train_size"]) == expected
    weight, attention = recipe.optimizer.weight, recipe.optimizer.attention
    assert (weight.lr, weight.momentum, weight.weight_decay) == (0.1, 0.9, 1e-4)
    assert (attention.lr, attention.weight_decay) == (0.1, 0.0)
    assert recipe.schedule.milestones == pytest.approx((30 / 90, 60 / 90), abs=1e-4)
    assert (config.dataset.options["image_size"], config.dataset.options["classes"]) == (224, 1000)
