"""Networks with all kinds of layers, quantized, and what they give when hard."""

import torch
from torch import nn

from qexp.quantizers import calibrate, hard_evaluation, quantize
from support import methods

BITS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (8, 8), (1, 8)]
IMAGES = 24


def images(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(IMAGES, 3, 12, 12, generator=draw).contiguous(memory_format=torch.channels_last)


def small(classes=5):
    """A network with all kinds of layers: a stride, groups, a bias, padding by copies, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, groups=4, padding=1, padding_mode="reflect", dilation=1),
        nn.ReLU(),
        nn.Conv2d(16, 12, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 9),
        nn.ReLU(),
        nn.Linear(9, classes),
    )


def quantized(name, weight_bits, activation_bits, make=small, **options):
    torch.manual_seed(1)
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    options = {"weight_bits": weight_bits, "activation_bits": activation_bits} | options
    quantize(model, methods.method(name), **options)
    model.to(memory_format=torch.channels_last)
    calibrate(model, images(1))
    return model.eval()


def logits(model, batch=IMAGES, threads=1, codes=None):
    torch.set_num_threads(threads)
    with torch.inference_mode(), hard_evaluation(model, codes):
        return torch.cat([model(part) for part in images().split(batch)])
