"""Photographs in folders of one's own: their splits, what is refused, and runs on them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qexp.config.fingerprint import fingerprint
from qexp.utils.errors import UsageError
from support.commands import Configure, OnlyRun, Qexp
from support.photographs import OPTIONS, REASONS, broken
from support.sources import source

TARGET = "qexp.data.photographs.Photographs"
BY_CHANCE: dict[str, Any] = {"train": "train", "test": None, "fraction": 0.4}


def photographs(**changes: Any) -> Any:
    return source("folder", **{**OPTIONS, "path": "imagenet", **changes})


def test_the_splits_are_the_folders_that_the_options_name(own_tree: Path) -> None:
    assert photographs().prepare(own_tree) == (15, 7)
    assert photographs(train="val", test="train").prepare(own_tree) == (7, 15)
    assert photographs(path=str(own_tree / "imagenet")).prepare(Path("elsewhere")) == (15, 7)
    (own_tree / "imagenet").rename(own_tree / "flowers")
    assert photographs(path="flowers").prepare(own_tree) == (15, 7)
    assert photographs(path="flowers/train", train=".", test=None, fraction=0.2).prepare(own_tree) == (12, 3)


def test_a_split_by_chance_takes_the_fraction_of_every_class_and_shares_no_image(own_tree: Path) -> None:
    """Of 5, 3 and 7 images 40 %: 2, 1 and 3."""
    data = photographs(**BY_CHANCE)
    root = data.root(own_tree)
    train, test = (data.find(root, split) for split in ("train", "val"))
    assert (np.bincount(train.labels).tolist(), np.bincount(test.labels).tolist()) == ([3, 2, 4], [2, 1, 3])
    everything = photographs().find(root, "train")
    assert sorted([*train.names, *test.names]) == sorted(everything.names)
    assert not set(train.names) & set(test.names)
    assert all(train.names[:-1] <= train.names[1:])
    again, other = (photographs(**BY_CHANCE, split_seed=seed).find(root, "val") for seed in (0, 1))
    assert again.names.tolist() == test.names.tolist() != other.names.tolist()


@pytest.mark.parametrize(("fraction", "expected"), [(0.01, [1, 1, 1]), (0.99, [4, 2, 6])])
def test_each_side_has_an_image_of_every_class(own_tree: Path, fraction: float, expected: list[int]) -> None:
    data = photographs(**{**BY_CHANCE, "fraction": fraction})
    assert np.bincount(data.find(data.root(own_tree), "val").labels).tolist() == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": ""}, "dataset.path: names the folder with the images, such as dataset.path=flowers"),
        ({"path": "nowhere"}, "dataset.path=nowhere: there is no folder "),
        ({"path": "~nobody-of-this-name/x"}, "dataset.path=~nobody-of-this-name/x: there is no folder "),
        ({"train": "nothing"}, "dataset.train=nothing: there is no folder "),
        ({"test": "nothing"}, "dataset.test=nothing: there is no folder "),
        ({"train": ""}, "dataset.train=: must be a folder inside of dataset.path"),
        ({"test": "../x"}, "dataset.test=../x: must be a folder inside of dataset.path"),
        ({"test": "/tmp"}, "dataset.test=/tmp: must be a folder inside of dataset.path"),
        ({"test": None}, "dataset.fraction=0: must lie between 0 and 1 where dataset.test is null"),
        ({"test": None, "fraction": 1.0}, "dataset.fraction=1: must lie between 0 and 1"),
        ({"fraction": 0.2}, "dataset.fraction=0.2: goes with dataset.test=null, not with a test folder"),
        ({"classes": 4}, "dataset.classes=4: "),
        ({"resize": 8}, "dataset.resize=8: must be at least dataset.image_size=16"),
    ],
)
@pytest.mark.parametrize("download", [False, True])
def test_what_is_wrong_is_one_line(own_tree: Path, changes: dict[str, Any], said: str, download: bool) -> None:
    with pytest.raises(UsageError) as caught:
        photographs(**changes).prepare(own_tree, download=download)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "bomb", "tiff", "pipe"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_cannot_be_read_is_found_before_a_training(own_tree: Path, kind: str, split: str) -> None:
    """Also a cut one, whose header is whole, and one of each split."""
    root = own_tree / "imagenet"
    if split == "val":
        shutil.copytree(root / "train" / "n02", root / "val" / "n02", dirs_exist_ok=True)
    path = broken(root / split / "n02", kind)
    photographs().prepare(own_tree, download=False)
    with pytest.raises(UsageError) as caught:
        photographs().prepare(own_tree)
    found = re.fullmatch(r"(.*): cannot be read as an image \((.*)\); replace or remove it", str(caught.value))
    assert found
    assert found[1] == str(path)
    assert re.fullmatch(REASONS[kind], found[2]), found[2]


def test_images_that_are_not_chosen_are_not_looked_at_and_several_are_counted(own_tree: Path) -> None:
    folder = own_tree / "imagenet" / "train" / "n02"
    for image in sorted(folder.glob("*.JPEG"))[1:3]:
        image.write_bytes(b"x")
    assert photographs(train_size=3).prepare(own_tree) == (3, 7)
    with pytest.raises(UsageError, match=r"\), nor can 1 more; replace or remove it$"):
        photographs().prepare(own_tree)


def test_looking_at_images_ends_in_time_and_is_done_once(own_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr("qexp.data.folder._look_at", looked.append)
    for _ in range(2):
        photographs().prepare(own_tree)
    assert len(looked) == 22
    shutil.copytree(own_tree / "imagenet", own_tree / "other")
    monkeypatch.setattr("qexp.data.photographs.LOOK_SECONDS", -1.0)
    photographs(path="other").prepare(own_tree)
    assert len(looked) == 22


def test_a_class_of_one_image_cannot_be_split(own_tree: Path) -> None:
    for image in sorted((own_tree / "imagenet" / "train" / "n02").glob("*.JPEG"))[1:]:
        image.unlink()
    with pytest.raises(UsageError, match="n02: one image cannot be split into training and testing"):
        photographs(**BY_CHANCE).prepare(own_tree)


def test_the_fingerprint_is_of_the_images_and_not_of_their_place(own_tree: Path, tmp_path: Path) -> None:
    """The same in another folder of another name; another one for other images, or the other split."""
    own = {"path": "imagenet", "train": "train", "test": "val"}
    first = fingerprint(TARGET, own_tree, own)
    assert first is not None
    shutil.copytree(own_tree / "imagenet", tmp_path / "copy" / "flowers")
    assert fingerprint(TARGET, tmp_path / "copy", {**own, "path": "flowers"}) == first
    assert fingerprint(TARGET, Path("nowhere"), {**own, "path": str(tmp_path / "copy" / "flowers")}) == first
    assert fingerprint(TARGET, own_tree, {**own, "train": "val", "test": "train"}) != first
    assert fingerprint(TARGET, own_tree, {**own, "test": None}) not in (first, None)
    (tmp_path / "copy" / "flowers" / "val" / "n01" / "new.jpg").write_bytes(b"x")
    assert fingerprint(TARGET, tmp_path / "copy", {**own, "path": "flowers"}) != first
    assert fingerprint(TARGET, own_tree, {**own, "path": None}) is None
    assert fingerprint("my_package.data.Photographs", own_tree, own) is None


WORDS = (
    *("dataset=folder", "dataset.classes=3", "dataset.image_size=16", "dataset.resize=20", "dataset.name=flowers"),
    *("model=resnet20", "model.width=0.25", "quantizer=ste", "bits=4", "device=cpu", "workers=0"),
    *("recipe.epochs=1", "recipe.batch_size=5", "stuck_after=null", "tracking.tensorboard=false"),
)


def test_the_key_does_not_hang_on_the_place(own_tree: Path, tmp_path: Path, configure: Configure) -> None:
    shutil.copytree(own_tree / "imagenet", tmp_path / "flowers")
    here = configure(*WORDS, f"data_dir={own_tree}", "dataset.path=imagenet")
    there = configure(*WORDS, f"dataset.path={tmp_path / 'flowers'}")
    assert here.key == there.key
    assert here.key != configure(*WORDS, f"data_dir={own_tree}", "dataset.path=imagenet", "dataset.split_seed=1").key
    assert "path" not in here.identity["dataset"]


@pytest.mark.training
def test_it_trains_under_its_own_name_and_is_found_again_elsewhere(
    own_tree: Path, qexp: Qexp, only_run: OnlyRun
) -> None:
    assert qexp("train", *WORDS, f"data_dir={own_tree}", "dataset.path=imagenet").code == 0
    path = only_run("ste")
    assert path.parts[1] == "flowers"
    summary = json.loads((path / "summary.json").read_text())
    assert (summary["dataset"], summary["test_images"]) == ("flowers", 7)
    (own_tree / "imagenet").rename(own_tree / "moved")
    again = qexp("train", *WORDS, f"data_dir={own_tree}", "dataset.path=moved")
    assert "already done" in again.out
    assert qexp("eval", str(path), f"data_dir={own_tree}", "dataset.path=moved").code == 0


@pytest.mark.training
def test_two_folders_are_two_data_sets_though_the_first_was_interrupted(
    own_tree: Path, qexp: Qexp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the same place with other files stops a command."""
    shutil.copytree(own_tree / "imagenet", own_tree / "other")
    (own_tree / "other" / "train" / "n01" / "n01_0.JPEG").unlink()
    saved = ("checkpoint.steps=1", f"data_dir={own_tree}")
    with monkeypatch.context() as patch:
        patch.setattr("qexp.experiment.train.summarize", lambda *_, **__: 1 / 0)
        assert qexp("train", *WORDS, *saved, "dataset.path=imagenet").code == 1
    assert qexp("train", *WORDS, *saved, "dataset.path=other").code == 0
    (own_tree / "imagenet" / "train" / "n01" / "n01_1.JPEG").unlink()
    changed = qexp("train", *WORDS, *saved, "dataset.path=imagenet")
    assert changed.code == 2
    assert "its files have changed since" in changed.err
