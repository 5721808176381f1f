"""`qexp models`."""

import shlex
import sys
from pathlib import Path

import pytest
from torchvision import models
from torchvision.models import list_models

from qexp.models.library_networks import network_names
from support.commands import Qexp


def test_all_networks_are_listed(qexp: Qexp) -> None:
    """With the layers that can be quantized, and their parameters; ResNet-20 of 10 classes as published, 0.27 M."""
    result = qexp("models")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines() if line.strip() and "─" not in line]
    assert rows[0] == ["model", "layers", "parameters"]
    ours = ["lenet5", "mobilenetv2", "resnet18", "resnet20", "resnet20_daq", "resnet34"]
    assert [row[0] for row in rows[1:-1]] == [*ours, "timm", "torchvision", "vgg7"]
    assert "lenet5" in rows[1]
    assert " ".join(rows[-1]).startswith("timm and torchvision stand for many networks: model.network=NAME")
    shown = qexp("models", "resnet20", "dataset=cifar10")
    assert "1,078.9 kB in 20 layers" in shown.out  # 269,722 parameters


def test_a_library_shows_its_networks_and_any_of_them(qexp: Qexp) -> None:
    shown = qexp("models", "torchvision", "model.network=squeezenet1_1", "dataset=cifar10", "--coverage", "bits=4")
    assert (shown.code, shown.err) == (0, "")
    assert "torchvision_network with network=squeezenet1_1" in shown.out
    row = next(line for line in shown.out.splitlines() if " networks " in line)
    assert row.split()[:2] == [str(len(network_names("torchvision"))), "networks"]
    assert {"alexnet,", "efficientnet_b0,", "wide_resnet50_2"} <= set(shown.out.split())
    assert len(row) <= 160  # of what is no terminal
    assert "features.0             Conv2d  float  keep_float first" in shown.out
    assert "resnet50d" in qexp("models", "timm").out


def test_a_library_that_is_not_there_hides_no_other_network(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    listed, shown = qexp("models"), qexp("models", "timm")
    assert listed.code == 0
    assert "resnet34" in listed.out
    assert "timm is not installed (pip install 'qexp[timm]')" in listed.out
    assert (shown.code, shown.err) == (
        2,
        "qexp models: error: model=timm: timm is not installed (pip install 'qexp[timm]')\n",
    )


def test_coverage_has_a_line_for_each_layer(qexp: Qexp) -> None:
    """As the words of qexp train say, and why a layer has other bits."""
    result = qexp(
        "models", "resnet20", "--coverage", "bits=4", "keep_float=[first]", 'layer_bits=["layer1.*:weight:2"]'
    )
    lines = [line.split(maxsplit=3) for line in result.out.split("\n\n")[1].splitlines()]
    assert len(lines) == 20
    assert lines[0] == ["conv1", "Conv2d", "float", "keep_float first"]
    assert lines[1] == ["layer1.0.conv1", "Conv2d", "W2A4", "layer_bits layer1.*:weight:2"]
    assert lines[19] == ["linear", "Linear", "W4A4"]
    assert "13 W4A4, 6 W2A4 of 20 layers" in result.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("torchvision", "model.network=resnet2"), "torchvision has no such classification network (near it: resnet"),
        (("torchvision", "model.width=2"), "model.width=2: unknown option; options here: network, pretrained"),
        (("resnet2",), "no model 'resnet2' (did you mean 'resnet20'?)"),
        (("--coverage",), "needs the name of a model"),
        (("resnet20", "bits=9"), "bits"),
        (("resnet20", "layer_bits=[nothing:4]"), "layer_bits entry 'nothing:4' fits no layer"),
        (("resnet20", "keep_float=['*']"), "there is nothing to quantize: conv1: keep_float *"),
        (("resnet20", "layer_bits=[last:4]"), "take it out of keep_float"),
        (("resnet20", "model.width=a"), "model.width"),
    ],
)
def test_what_is_wrong_is_one_line(qexp: Qexp, words: tuple[str, ...], message: str) -> None:
    """And exit code 2."""
    result = qexp("models", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_the_advice_for_layers_that_are_never_called_can_be_typed_as_it_is(qexp: Qexp, workspace: Path) -> None:
    words = ("models", "torchvision", "model.network=swin_t")
    for before, kept in (
        ((), "first,last,"),
        (("keep_float=[first:input]",), "first:input,"),
        (("keep_float=[]",), ""),
    ):
        refused = qexp(*words, *before)
        assert refused.code == 2
        advice = refused.err.rstrip().partition("; leave it float by ")[2]
        assert advice == f"'keep_float=[{kept}*.qkv,*.proj]'"
        assert qexp(*words, *shlex.split(advice)).code == 0


def test_a_network_that_is_not_there_names_the_list(qexp: Qexp, workspace: Path) -> None:
    count = len(list_models(module=models))
    said = "torchvision has no such classification network"
    for word, hint in (("nosuch", f"; qexp models torchvision lists all {count}"), ("resnet19", " (near it: resnet")):
        refused = qexp("models", "torchvision", f"model.network={word}")
        assert refused.code == 2
        assert refused.err.startswith(f"qexp models: error: model.network={word}: {said}{hint}")
        assert f"qexp models torchvision lists {'all' if word == 'nosuch' else 'the'} {count}\n" in refused.err
