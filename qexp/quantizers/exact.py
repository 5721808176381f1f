"""Hard evaluation of a whole network: every weight quantized once, by its own quantizer or to given codes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.numerics import as_float


@torch.no_grad()
def weight_codes(model: nn.Module) -> dict[str, Tensor]:
    """Return layer name -> uint8 codes of its quantized weight, of its shape."""
    return {
        name: layer.weight_quantizer.codes(layer.weight)[0]
        for name, layer in quantized_layers(model)
        if layer.weight_quantizer is not None
    }


@contextmanager
def hard_evaluation(model: nn.Module, codes: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside the block, forward passes of `model` in evaluation mode use weights that were quantized once.

    Args:
        model: with its quantizers.
        codes: layer name -> codes (uint8, of the shape of the weight) to use in place of the quantizer's own.
    """
    given = codes or {}
    try:
        with torch.no_grad():
            for name, layer in quantized_layers(model):
                if layer.weight_quantizer is not None:
                    layer.cached_weight = _weight(layer, given.get(name))
        yield
    finally:
        for _, layer in quantized_layers(model):
            layer.cached_weight = None


def _weight(layer: QuantLayer, codes: Tensor | None) -> Tensor:
    if codes is None:
        return layer.quantized_weight()
    assert layer.weight_quantizer is not None
    form = layer.weight_quantizer.integer_form(as_float(layer.weight))
    assert form is not None
    form.codes.copy_(codes)
    weight = form.integers().mul_(form.scale).add_(form.offset)
    return weight if layer.output_scale is None else weight * layer.output_scale.abs()
