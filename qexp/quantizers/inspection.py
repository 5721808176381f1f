"""What a quantized network reports about itself; nothing here changes it."""

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, TINY, Part, Quantizer
from qexp.quantizers.channels import channel_axis, values_at
from qexp.quantizers.convert import named_quantizers, quantized_layers
from qexp.quantizers.coverage import Coverage
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.numerics import as_double


def has_soft_form(model: nn.Module) -> bool:
    """Whether soft and hard evaluation can differ."""
    return any(quantizer.has_soft_form for _, quantizer in named_quantizers(model))


def learns_bits(model: nn.Module) -> bool:
    """Whether the widths of some layers are a part of the state, and may be others than those it was made with."""
    return any(type(quantizer).bits is not Quantizer.bits for _, quantizer in named_quantizers(model))


def learned_bits(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return layer -> the bits of its weight and input now, where the network learns some of them, else nothing."""
    layers = quantized_layers(model) if learns_bits(model) else ()
    return {name: (layer.weight_bits, layer.input_bits) for name, layer in layers}


def present_coverage(model: nn.Module, coverage: Coverage) -> Coverage:
    """Return what `quantize` did, with the bits that the layers have now."""
    layers = quantized_layers(model)
    return coverage.with_bits({name: (layer.weight_bits, layer.input_bits) for name, layer in layers})


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
def quantization_errors(model: nn.Module) -> dict[str, float]:
    """Return for each layer with quantized weights the root of sum (w - Q(w))^2 / sum w^2, when hard.

    Q(w) is in the units of the weight: what a code stands for, also where a layer learns its scale elsewhere (DAQ).
    """
    found: dict[str, Tensor] = {}
    for name, layer in quantized_layers(model):
        if (quantizer := layer.weight_quantizer) is None:
            continue
        weight = as_double(layer.weight.detach())
        codes, levels = quantizer.codes(layer.weight)
        bins = quantizer.bins(layer.weight)
        error = weight - as_double(values_at(levels if bins is None else bins.centers, codes))
        found[name] = error.square().sum().div(weight.square().sum().clamp_min(TINY)).sqrt()
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True)) if found else {}


@torch.no_grad()
def weight_levels(model: nn.Module) -> dict[str, int]:
    """Return for each layer with quantized weights how many different values they have when hard.

    Where each output channel has levels of its own, the most that one of them has.
    """
    counts = {}
    for name, layer in quantized_layers(model):
        if layer.weight_quantizer is not None:
            codes, levels = layer.weight_quantizer.codes(layer.weight)
            values, axes = values_at(levels, codes), levels.shape[:-1]
            rows = values.movedim(channel_axis(axes), 0) if axes else values[None]
            counts[name] = max(len(row.unique()) for row in rows)
    return counts


def weight_memory_bytes(model: nn.Module) -> tuple[float, float]:
    """Return (bytes at true bits, bytes as float32) of all parameters but the quantizers' own.

    A parameter that several layers share counts once, at the most bits that one of them has. Scales and offsets of
    single channels count as float32 beside the bits of their weights; the one of a whole layer does not.
    """
    found: dict[nn.Parameter, int] = {}
    scales = 0
    for module in model.modules():
        if isinstance(module, Part):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name == "output_scale":
                continue
            bits = module.weight_bits if isinstance(module, QuantLayer) and name == "weight" else FLOAT_BITS
            found[parameter] = max(bits, found.get(parameter, 0))
        if isinstance(module, QuantLayer) and module.weight_quantizer is not None:
            scales += module.weight_quantizer.channel_numbers
    as_float = sum(parameter.numel() * FLOAT_BITS / 8 for parameter in found)
    at_bits = sum(parameter.numel() * bits / 8 for parameter, bits in found.items())
    return at_bits + scales * FLOAT_BITS / 8, as_float
