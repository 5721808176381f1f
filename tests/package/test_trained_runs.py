"""Every method trained on real images through the whole tool: it learns, and what is reported is what it is."""

import json
import types
from pathlib import Path

import pytest
import torch

from qexp.cli.main import main
from qexp.config.config import recorded_config
from qexp.config.yaml_files import load_yaml
from qexp.engine.metrics import measure_accuracy
from qexp.experiment.build import assemble
from qexp.experiment.evaluate import evaluate_session
from qexp.experiment.session import Session
from qexp.quantizers import Quantizer, named_quantizers
from support import methods

pytestmark = pytest.mark.training

QUICK = [
    *("dataset=digits", "dataset.train_size=900", "model=resnet20", "model.width=0.25"),
    *("recipe.epochs=3", "recipe.batch_size=32"),
]
TRAINED = [name for name in methods.NAMES if name != "fp"]


def train(folder: Path, *words: str) -> tuple[Path, dict]:
    """Train quickly and return (run directory, summary)."""
    assert main(["train", *QUICK, f"runs_dir={folder}", *words]) == 0
    quantizer = next((word.partition("=")[2] for word in words if word.startswith("quantizer=")), "daq")
    (path,) = folder.glob(f"digits/resnet20/{quantizer}-*/*/summary.json")
    return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def from_codes(quantizer: Quantizer, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """What an integer engine has: small codes, a table of levels, and the scale of a layer's output."""
    codes, levels = quantizer.codes(x)
    assert codes.dtype == torch.uint8
    assert int(codes.max()) < 2**quantizer.bits
    values = levels[codes.long()]
    return values if scale is None else values * scale.abs()


@pytest.mark.parametrize("name", TRAINED)
def test_the_reported_accuracy_is_that_of_the_codes(store, name, capsys):
    """Trained W2A3 from the float net; with every operand rebuilt from codes and levels alone, hard top-1 is equal."""
    path, summary = train(store, f"quantizer={name}", "weight_bits=2", "activation_bits=3", "init=fp")
    config = recorded_config(load_yaml(path / "config.yaml"))
    session = Session(config, assemble(config), checkpoint_file=path / "last.pt")
    assert evaluate_session(session)[0].top1 == summary["top1_hard"]
    found = [quantizer for _, quantizer in named_quantizers(session.model)]
    assert sorted({quantizer.bits for quantizer in found}) == [2, 3]
    for quantizer in found:
        quantizer.forward = types.MethodType(from_codes, quantizer)
    rebuilt = measure_accuracy(session.model, session.test_batches.epoch(0))
    assert rebuilt.top1 == summary["top1_hard"]
    assert rebuilt.loss == pytest.approx(summary["test_loss"], rel=1e-6)
    assert summary["top1_hard"] > 60
    assert summary["float_top1"] > 80
    assert summary["weight_kilobytes"] < summary["float_weight_kilobytes"] / 8
    assert len(list(store.glob("digits/resnet20/fp-w32a32/*"))) == 1  # all methods start from the same float net


def test_training_twice_gives_the_same_numbers(tmp_path):
    """Same command, same seed, same machine: equal metrics; another seed differs."""
    words = ("quantizer=ste", "bits=2", "init=scratch", "recipe.epochs=1", "dataset.train_size=200")
    results = []
    for number, seed in enumerate((0, 0, 1)):
        _, summary = train(tmp_path / str(number), *words, f"seed={seed}")
        results.append({key: summary[key] for key in ("train_loss", "test_loss", "top1_hard")})
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_mobilenet_with_signed_inputs_trains(tmp_path):
    """Linear bottlenecks give negative inputs; the signed range is found at calibration."""
    assert main([
        "train", "model=mobilenetv2", "model.width=0.25", "quantizer=daq", "bits=4", "init=scratch",
        "recipe.epochs=1", "dataset.train_size=128", "dataset.test_size=64", f"runs_dir={tmp_path}",
    ]) == 0  # fmt: skip
    (path,) = tmp_path.glob("*/*/*/*/last.pt")
    signed = [value.item() for key, value in torch.load(path, weights_only=True)["model"].items() if "signed" in key]
    assert 0.0 in signed
    assert 1.0 in signed


def weights_of(folder: Path, *words: str) -> dict[str, torch.Tensor]:
    """Train DQA on synthetic images for two epochs, gently; return what last.pt holds."""
    base = ["dataset=synthetic", "dataset.train_size=64", "dataset.test_size=32", "model=resnet20", "model.width=0.25"]
    more = ["quantizer=dqa", "bits=2", "init=scratch", "recipe.epochs=2", "recipe.batch_size=24", f"runs_dir={folder}"]
    rates = [f"recipe.optimizer.{role}.lr=0.001" for role in ("weight", "norm", "attention")]
    assert main(["train", *base, *more, *rates, *words]) == 0
    (path,) = folder.glob("synthetic/resnet20/dqa-*/*/last.pt")
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict[str, torch.Tensor]:
    return weights_of(tmp_path_factory.mktemp("usual"))


def test_recomputing_changes_no_bit_of_a_run(usual, tmp_path):
    """Weights, attention, running ranges and batch statistics after two epochs."""
    again = weights_of(tmp_path, "recompute=true")
    assert again.keys() == usual.keys()
    assert all(torch.equal(again[name], usual[name]) for name in usual)


@pytest.mark.parametrize("words", [["recipe.accumulate=4"], ["recipe.precision=bfloat16"]])
def test_parts_and_precision_are_what_a_run_computes(usual, tmp_path, words):
    """Another run, beside the usual one, whose weights are near it and not the same."""
    other = weights_of(tmp_path, *words)
    first = "conv1.weight"
    assert not torch.equal(other[first], usual[first])
    assert (other[first] - usual[first]).norm() < 0.05 * usual[first].norm()
    assert other[first].dtype == torch.float32


@pytest.mark.slow
def test_a_compiled_run_from_its_command(usual, tmp_path):
    """Last short batch, hard and soft evaluation included; near the usual weights."""
    compiled = weights_of(tmp_path, "compile=true")
    assert list(compiled) == list(usual)
    assert (compiled["conv1.weight"] - usual["conv1.weight"]).norm() < 0.05 * usual["conv1.weight"].norm()
