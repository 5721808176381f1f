"""What a quantized network reports about itself; nothing here changes it."""

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, Part
from qexp.quantizers.convert import named_quantizers, quantized_layers
from qexp.quantizers.layers import QuantLayer


def has_soft_form(model: nn.Module) -> bool:
    """Whether soft and hard evaluation can differ."""
    return any(quantizer.has_soft_form for _, quantizer in named_quantizers(model))


@torch.no_grad()
def stats(model: nn.Module) -> dict[str, float]:
    """Return `layer/side/what` -> value for everything the quantizers report; waits for the device."""
    named: dict[str, Tensor] = {}
    for name, layer in quantized_layers(model):
        for side, quantizer in (("weight", layer.weight_quantizer), ("input", layer.input_quantizer)):
            if quantizer is not None:
                named |= {f"{name}/{side}/{key}": value for key, value in quantizer.stats().items()}
        if layer.output_scale is not None:
            named[f"{name}/output_scale"] = layer.output_scale.abs()
    if not named:
        return {}
    values = torch.stack([value.float() for value in named.values()]).tolist()
    return dict(zip(named, values, strict=True))


@torch.no_grad()
def weight_levels(model: nn.Module) -> dict[str, int]:
    """Return for each layer with quantized weights how many different values they have when hard."""
    counts = {}
    for name, layer in quantized_layers(model):
        if layer.weight_quantizer is not None:
            codes, levels = layer.weight_quantizer.codes(layer.weight)
            counts[name] = len(levels[codes.long()].unique())
    return counts


def weight_memory_bytes(model: nn.Module) -> tuple[float, float]:
    """Return (bytes at true bits, bytes as float32) of all parameters but the quantizers' own.

    A parameter that several layers share counts once, at the most bits that one of them has.
    """
    found: dict[nn.Parameter, int] = {}
    for module in model.modules():
        if isinstance(module, Part):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name == "output_scale":
                continue
            bits = module.weight_bits if isinstance(module, QuantLayer) and name == "weight" else FLOAT_BITS
            found[parameter] = max(bits, found.get(parameter, 0))
    as_float = sum(parameter.numel() * FLOAT_BITS / 8 for parameter in found)
    return sum(parameter.numel() * bits / 8 for parameter, bits in found.items()), as_float
