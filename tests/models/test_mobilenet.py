"""MobileNetV2."""

import pytest
import torch
import torchvision

from qexp.models.mobilenet import mobilenetv2
from support.shapes import outputs


def test_mobilenetv2_strides() -> None:
    kind = torchvision.models.mobilenetv2.InvertedResidual
    small = outputs(mobilenetv2(10, 3, 32, width=0.1), kind, torch.randn(1, 3, 32, 32))
    large = outputs(mobilenetv2(10, 3, 224, width=0.1), kind, torch.randn(1, 3, 224, 224))
    assert [shape[2] for shape in small] == [32] * 3 + [16] * 3 + [8] * 7 + [4] * 4
    assert [shape[2] for shape in large] == [112] + [56] * 2 + [28] * 3 + [14] * 7 + [7] * 4


def test_mobilenetv2_passes_dropout_on() -> None:
    assert mobilenetv2(10, 3, 32, dropout=0.35).classifier[0].p == 0.35


def test_mobilenetv2_stem_for_other_channels_has_the_same_spread_of_weights() -> None:
    stem = mobilenetv2(10, 1, 224, width=4.0).features[0][0]
    fan_out = stem.out_channels * 9
    assert stem.weight.shape[1] == 1
    assert stem.stride == (2, 2)
    assert stem.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
