"""MobileNetV2, with smaller strides for small images.

Paper: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv 1801.04381.
Code: torchvision.models.mobilenetv2, which builds the network here.
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models import MobileNetV2

from qexp.utils.types import Fraction, Positive

_SMALL_IMAGE = 64


class _MobileNetV2(MobileNetV2):
    """torchvision's, whose average over all pixels is a module, so that exact evaluation finds it."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def _forward_impl(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def mobilenetv2(
    classes: int, channels: int, image_size: int, *, width: Positive = 1.0, dropout: Fraction = 0.2
) -> nn.Module:
    """Build MobileNetV2.

    Strides of the first convolution and the seven stages (16, 24, 32, 64, 96, 160, 320 channels):
    2, 1 2 2 2 1 2 1 above 64 pixels (224x224 ends at 7x7), 1, 1 1 2 2 1 2 1 up to 64 pixels (32x32 ends at 4x4).

    Args:
        classes: number of outputs.
        channels: number of channels of the images.
        image_size: height and width in pixels; decides the strides.
        width: factor on the channels, which torchvision rounds to multiples of 8; the last 1280 only grow.
        dropout: probability of dropping a feature before the classifier.
    """
    small = image_size <= _SMALL_IMAGE
    # Per stage: expansion, channels, blocks, stride of the first block (table 2 of the paper).
    setting = [
        [1, 16, 1, 1],
        [6, 24, 2, 1 if small else 2],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    model = _MobileNetV2(classes, width_mult=width, inverted_residual_setting=setting, dropout=dropout)
    if small or channels != 3:  # torchvision fixes both for the first convolution
        stem = model.features[0]
        stem[0] = _stem_convolution(channels, stem[0].out_channels, stride=1 if small else 2)
    return model


def _stem_convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    return convolution
