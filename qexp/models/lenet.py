"""LeNet-5 as quantization papers use it on MNIST: 32C5-MP2-64C5-MP2-512FC.

Paper: Louizos et al., Relaxed Quantization for Discretized Neural Networks, ICLR 2019, arXiv 1810.01875, Table 1.
Readings, which the paper does not say: convolutions without padding (as in the LeNet of the Caffe examples), ReLU after
each layer but the last, initial weights after He. No batch normalisation, no dropout.
"""

from torch import Tensor, nn

from qexp.models.widths import scaled
from qexp.utils.types import Positive


class LeNet(nn.Module):
    """Two 5x5 convolutions with ReLU and max-pooling, a hidden layer, a linear classifier.

    Args:
        classes: number of outputs.
        channels: number of channels of the images.
        image_size: height and width in pixels; 28 become 24, 12, 8 and 4.
        width: factor on the 32 and 64 channels of the convolutions and the 512 of the hidden layer.

    Raises:
        ValueError: images of less than 16 pixels, of which nothing would be left.
    """

    def __init__(self, classes: int, channels: int, image_size: int, width: float):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(f"needs images of 16x16 pixels or more, not {image_size}x{image_size}")
        first, second, hidden = (scaled(base, width) for base in (32, 64, 512))
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(second * side**2, hidden)
        self.fc2 = nn.Linear(hidden, classes)
        for parameter in self.parameters():
            if parameter.dim() == 1:  # a bias
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.maxpool(self.relu(self.conv1(x)))
        x = self.maxpool(self.relu(self.conv2(x)))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


def lenet5(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build LeNet-5; see `LeNet` for the arguments and what it raises."""
    return LeNet(classes, channels, image_size, width)
