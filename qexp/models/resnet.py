"""ImageNet ResNets, with a small stem for small images.

Paper: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385.
Code consulted: torchvision.models.resnet; names and initial weights are the same, so its weights load strictly.
"""

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1

from qexp.models.widths import scaled
from qexp.utils.types import Positive

_SMALL_IMAGE = 64


class ResNet(nn.Module):
    """Stem, four stages of basic blocks, global average pooling, linear classifier.

    Args:
        depths: number of blocks of each of the four stages.
        classes: number of outputs.
        channels: number of channels of the images.
        image_size: height and width in pixels; up to 64 the stem is a 3x3 convolution of stride 1 without pooling
            (as is usual for CIFAR), above it is the 7x7 convolution of stride 2 with max-pooling.
        width: factor on the 64, 128, 256 and 512 channels of the stages.
    """

    def __init__(self, depths: tuple[int, int, int, int], classes: int, channels: int, image_size: int, width: float):
        super().__init__()
        planes = [scaled(base, width) for base in (64, 128, 256, 512)]
        small = image_size <= _SMALL_IMAGE
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, planes[0], kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(planes[0], planes[0], depths[0], stride=1)
        self.layer2 = _stage(planes[0], planes[1], depths[1], stride=2)
        self.layer3 = _stage(planes[1], planes[2], depths[2], stride=2)
        self.layer4 = _stage(planes[2], planes[3], depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(depth - 1)))


def resnet18(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build ResNet-18; see `ResNet` for the arguments."""
    return ResNet((2, 2, 2, 2), classes, channels, image_size, width)


def resnet34(classes: int, channels: int, image_size: int, *, width: Positive = 1.0) -> nn.Module:
    """Build ResNet-34; see `ResNet` for the arguments."""
    return ResNet((3, 4, 6, 3), classes, channels, image_size, width)
