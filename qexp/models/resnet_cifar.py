"""The small ResNets for CIFAR, and the variant that DAQ was published with.

Paper: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385, section 4.2.
Code consulted: github.com/akamaster/pytorch_resnet_cifar10 (initial weights); the released code of Kim, Lee and Ham,
Distance-aware Quantization, ICCV 2021, arXiv 2108.06983 (the variant).
"""

from torch import Tensor, nn
from torch.nn import functional

from qexp.models.widths import scaled
from qexp.utils.types import Positive


class ZeroPadShortcut(nn.Module):
    """The parameter-free shortcut (option A): every second pixel, new channels filled with zeros.

    Half of the new channels go before the old ones and half after; an odd one goes after.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H/2), ceil(W/2))."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity() if stride == 1 else ZeroPadShortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """3x3 convolution, three stages of basic blocks, global average pooling, linear classifier.

    Args:
        depth: number of blocks of each stage.
        classes: number of outputs.
        channels: number of channels of the images.
        width: factor on the 16, 32 and 64 channels of the stages.
        stem_norm: normalise after the first convolution.
        feature_norm: normalise the pooled features before the classifier.
    """

    def __init__(self, depth: int, classes: int, channels: int, width: float, *, stem_norm: bool, feature_norm: bool):
        super().__init__()
        planes = [scaled(base, width) for base in (16, 32, 64)]
        self.conv1 = nn.Conv2d(channels, planes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0]) if stem_norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(planes[0], planes[0], depth, stride=1)
        self.layer2 = _stage(planes[0], planes[1], depth, stride=2)
        self.layer3 = _stage(planes[1], planes[2], depth, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(planes[2]) if feature_norm else nn.Identity()
        self.linear = nn.Linear(planes[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.bn2(self.avgpool(x).flatten(1)))


def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    first = CifarBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(CifarBlock(outputs, outputs, 1) for _ in range(depth - 1)))


def resnet20(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build ResNet-20 as in He et al.; it takes images of any size, so `image_size` changes nothing."""
    return CifarResNet(3, classes, channels, width, stem_norm=True, feature_norm=False)


def resnet20_daq(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build the ResNet-20 of the DAQ code; `image_size` changes nothing.

    No batch normalisation after the first convolution, one before the classifier. The authors' files also hold a
    `bn1` (32 more parameters, 269,850 in all) that their network never applies; it is left out here.
    """
    return CifarResNet(3, classes, channels, width, stem_norm=False, feature_norm=True)
