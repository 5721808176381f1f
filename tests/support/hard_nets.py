"""Networks with all kinds of layers, quantized, and what they give when hard."""

import torch
from torch import nn

from qexp.quantizers import calibrate, hard_evaluation, quantize, quantized_layers
from qexp.quantizers.channels import values_at
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


def check_layers(model):
    """Each quantized layer against the product of its levels in double precision, by the largest sum of sizes."""
    seen = {}
    with torch.inference_mode():
        for key, layer in quantized_layers(model):
            layer.register_forward_hook(lambda _, inputs, output, key=key: seen.update({key: (inputs[0], output)}))
        logits(model)
        for key, layer in quantized_layers(model):
            x, found = seen[key]
            values = [
                values_at(*reversed(quantizer.codes(value))).double()
                for quantizer, value in ((layer.input_quantizer, x), (layer.weight_quantizer, layer.weight))
            ]
            scale = 1.0 if layer.output_scale is None else layer.output_scale.abs().double()
            bias = None if layer.bias is None else layer.bias.double()
            size = (layer.apply_operation(*(value.abs() for value in values), None) * scale).max()
            exact = layer.apply_operation(*values, None) * scale
            exact = exact if bias is None else exact + (bias[:, None, None] if exact.dim() == 4 else bias)
            assert (found - exact).abs().max() <= 1e-6 * size
            assert found.dtype == torch.float32
    assert seen
