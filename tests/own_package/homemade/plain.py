"""Plain: three convolutions, with dropout, which draws from torch's generator."""

from torch import nn

from qexp.utils.types import Fraction, Positive


def plain(classes: int, channels: int, image_size: int, *, width: Positive, dropout: Fraction) -> nn.Module:
    planes = max(4, round(16 * width))
    return nn.Sequential(
        nn.Conv2d(channels, planes, 3, padding=1),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.Conv2d(planes, planes, 3, padding=1),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * planes, classes),
    )
