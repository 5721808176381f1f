"""What is refused before a directory exists: devices, data, checkpoints, stores."""

from pathlib import Path

import pytest
import torch

from qexp.data.download import Download
from support.commands import Qexp, refused


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(qexp: Qexp) -> None:
    (said,) = refused(qexp, "device=cuda")
    assert said == "device=cuda: no CUDA device here; device=cpu or device=auto will run"


def test_a_dataset_that_is_not_there_and_cannot_be_fetched_is_refused(qexp: Qexp, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (said,) = refused(qexp, "dataset=cifar10", f"data_dir={tmp_path}/empty")
    for part in (f"{tmp_path}/empty/cifar10/", "no network", "data_dir=PATH", "QEXP_DATA"):
        assert part in said
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_dry_run_does_not_download(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Download, "fetch", lambda *_: pytest.fail("downloads"))
    result = qexp("train", "--dry-run", "dataset=cifar10")
    assert (result.code, result.err) == (0, "")


def test_a_checkpoint_that_cannot_be_loaded_is_refused(qexp: Qexp, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    (said,) = refused(qexp, f"init={tmp_path}/text.pt")
    assert f"{tmp_path}/text.pt" in said
    assert "not a checkpoint" in said


def test_a_checkpoint_of_another_network_is_refused(qexp: Qexp, tmp_path: Path) -> None:
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    (said,) = refused(qexp, f"init={tmp_path}/other.pt")
    assert "does not fit this network; missing: " in said


def test_a_store_that_cannot_be_written_is_refused(qexp: Qexp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (said,) = refused(qexp, f"runs_dir={tmp_path}/file/runs")
    assert said == f"cannot write {tmp_path}/file/runs: Not a directory"


def test_missing_data_are_named_beside_a_mistake_in_another_part(qexp: Qexp, workspace: Path) -> None:
    """What is wrong with the network does not hide that the images are not there."""
    lines = refused(qexp, "dataset=cifar10", "model.width=-1")
    assert len(lines) == 2
    assert any("model.width=-1" in line for line in lines)
    assert any("cifar10: neither" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("recipe.patience=3",), "recipe.patience=3: needs images to judge by; recipe.holdout=N keeps some"),
        (
            ("recipe.holdout=511",),
            "recipe.holdout=511: at most 502, so that each of 10 classes keeps an image to train on; the dataset has "
            "512 training images",
        ),
        (
            ("recipe.holdout=502", "recipe.batch_size=11"),
            "recipe.batch_size=11: the dataset has 10 training images besides recipe.holdout=502",
        ),
        (("recipe.holdout=-1",), "recipe.holdout=-1: must be at least 0"),
        (
            ("recipe.schedule.restarts=[0.5,0.25]",),
            "recipe.schedule.restarts=[0.5,0.25]: must rise, and lie between 0 and 1, such as [0.25,0.5]",
        ),
        (
            ("recipe.schedule.name=step", "recipe.schedule.restarts=[0.5,1]"),
            "recipe.schedule.restarts=[0.5,1]: must rise, and lie between 0 and 1, such as [0.25,0.5]",
        ),
        (
            ("recipe.schedule.restarts=[0,0.5]",),
            "recipe.schedule.restarts=[0,0.5]: must rise, and lie between 0 and 1, such as [0.25,0.5]",
        ),
        (
            ("recipe.schedule.restarts=[0.05,0.5]",),
            "recipe.schedule.restarts=[0.05,0.5]: the first must come after recipe.schedule.warmup=0.05",
        ),
        (
            ("recipe.schedule.restarts=[0.5]", "recipe.schedule.name=constant"),
            "recipe.schedule.restarts=[0.5]: begin cosine and step anew, and not name=constant",
        ),
        (("recipe.schedule.restarts=[0.5,1.5]",), "recipe.schedule.restarts[1]=1.5: must be at most 1"),
        (("recipe.ema=1",), "recipe.ema=1.0: must be at most 0.999999"),
        (("recipe.clip_norm=inf",), "recipe.clip_norm=inf: must be a finite number"),
        (("recipe.cutmix=101",), "recipe.cutmix=101.0: must be at most 100"),
        (("recipe.randaugment=31",), "recipe.randaugment=31: must be at most 30"),
        (("recipe.randaugment=0.5",), "recipe.randaugment=0.5: expected an integer"),
        (
            ("dataset.channels=2", "dataset.mean=[0,0]", "dataset.std=[1,1]", "recipe.randaugment=9"),
            "recipe.randaugment=9: is for images of 1 or 3 channels; those of synthetic have 2",
        ),
    ],
)
def test_options_of_a_recipe_that_cannot_be_are_refused_in_one_line(
    qexp: Qexp, words: tuple[str, ...], expected: str
) -> None:
    assert refused(qexp, "dataset=synthetic", "model=resnet20", *words) == [expected]
