"""`qexp models`."""

import pytest

from support.commands import Qexp


def test_all_networks_are_listed(qexp: Qexp) -> None:
    """With the layers that can be quantized, and their parameters; ResNet-20 of 10 classes as published, 0.27 M."""
    result = qexp("models")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines() if line.strip() and "─" not in line]
    assert rows[0] == ["model", "layers", "parameters"]
    assert [row[0] for row in rows[1:]] == ["mobilenetv2", "resnet18", "resnet20", "resnet20_daq", "resnet34"]
    shown = qexp("models", "resnet20", "dataset=cifar10")
    assert "1,078.9 kB in 20 layers" in shown.out  # 269,722 parameters


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
