"""VGG-7 as quantization papers use it on CIFAR-10: 2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-1024FC.

Paper: Louizos et al., Relaxed Quantization for Discretized Neural Networks, ICLR 2019, arXiv 1810.01875, Table 1.
Readings, which the paper does not say: padding of 1 pixel, batch normalisation after each convolution and not after the
hidden layer, ReLU after each layer but the last, no dropout, initial weights after He for the convolutions and torch's
own for the linear layers. With larger ones, or at high learning rates, most of the hidden layer is soon 0 for good.
"""

from torch import Tensor, nn

from qexp.models.widths import scaled
from qexp.utils.types import Positive


class Vgg(nn.Module):
    """Three pairs of 3x3 convolutions with max-pooling after each pair, a hidden layer, a linear classifier.

    Args:
        classes: number of outputs.
        channels: number of channels of the images.
        image_size: height and width in pixels; 32 become 16, 8 and 4.
        width: factor on the 128, 256 and 512 channels of the pairs and the 1024 of the hidden layer.

    Raises:
        ValueError: images of less than 8 pixels, of which nothing would be left.
    """

    def __init__(self, classes: int, channels: int, image_size: int, width: float):
        super().__init__()
        side = image_size // 8
        if side < 1:
            raise ValueError(f"needs images of 8x8 pixels or more, not {image_size}x{image_size}")
        first, second, third, hidden = (scaled(base, width) for base in (128, 256, 512, 1024))
        self.pair1 = _pair(channels, first)
        self.pair2 = _pair(first, second)
        self.pair3 = _pair(second, third)
        self.fc1 = nn.Linear(third * side**2, hidden)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.pair3(self.pair2(self.pair1(x)))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs), nn.MaxPool2d(2))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def vgg7(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build VGG-7; see `Vgg` for the arguments and what it raises."""
    return Vgg(classes, channels, image_size, width)
