"""The whole tool on real images, where QEXP_DATA names a folder that has them."""

import json
import os
from pathlib import Path

import pytest

from qexp.cli.main import main

DATA = Path(os.environ.get("QEXP_DATA", "nowhere"))
ON_CIFAR = ["dataset=cifar10", "model=resnet18", "quantizer=daq", "bits=2", f"data_dir={DATA}"]

has_cifar = pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="no cifar10 in QEXP_DATA")
has_mnist = pytest.mark.skipif(not (DATA / "MNIST").is_dir(), reason="no MNIST in QEXP_DATA")


def trained(folder: Path, *words: str) -> dict:
    """Train and return the summary of the quantized run."""
    assert main(["train", *words, f"runs_dir={folder}"]) == 0
    found = [json.loads(path.read_text()) for path in folder.glob("*/*/*/*/summary.json")]
    (summary,) = [one for one in found if one["quantizer"] != "fp"]
    return summary


@pytest.mark.training
@has_cifar
def test_cifar10_trains(tmp_path):
    """The smoke protocol: 256 real photographs in, an accuracy over 256 real test images out."""
    summary = trained(tmp_path, *ON_CIFAR, "protocol=smoke", "init=fp")
    assert (summary["train_images"], summary["test_images"]) == (256, 256)
    assert summary["float_top1"] is not None
    assert summary["weight_kilobytes"] < summary["float_weight_kilobytes"] / 10


@pytest.mark.training
@has_mnist
def test_mnist_is_learned(tmp_path):
    """2,000 images and three epochs are enough to see that 2-bit DAQ learns real digits from its float net."""
    words = ["dataset=mnist", "model=resnet20", "model.width=0.5", "quantizer=daq", "bits=2", f"data_dir={DATA}"]
    summary = trained(
        tmp_path, *words, "dataset.train_size=2000", "dataset.test_size=500", "recipe.epochs=3", "recipe.batch_size=64"
    )
    assert summary["top1_hard"] > 80


@pytest.mark.slow
@has_cifar
def test_two_bit_weights_on_cifar10(tmp_path):
    """The short protocol, where frozen random 2-bit convolutions reach 38.7 %: training must do much better."""
    words = ["dataset=cifar10", "model=resnet18", "protocol=short", "quantizer=ste", "bits=2", "activation_bits=32"]
    assert trained(tmp_path, *words, f"data_dir={DATA}")["top1_hard"] >= 58
