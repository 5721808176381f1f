"""Dampening: a penalty that pulls latent weights to the middle of their bins.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", ICML 2022 (arXiv 2203.11086), section 4.1:
lambda times the sum over layers of || s * w_int - clip(w, s * n, s * p) ||_F^2, without gradient through s * w_int.
Here s * w_int is the center of a weight's bin, so that it is one penalty for every method whose bins are known.

A decision of our own: DAQ standardizes weights, and its outer centers lie far out, at 3 deviations. To pull weights
there widens the deviation, which moves the centers: at 1 and 2 bits weights grew with every step (docs/design.md). What
such a code stands for in the units of the weight the method does not say, since a learned scale multiplies its level.
We take the mean of the weights that have it, which pulls away from thresholds as well, and lets no weights grow.
"""

import torch
from torch import Tensor, nn

from qexp.quantizers.channels import table_index, values_at
from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.numerics import as_float


class Dampening:
    """The penalty of a model; a call returns it as a 0-dim tensor.

    Args:
        model: with its quantizers.

    Attributes:
        strength: lambda, which a schedule sets.
    """

    def __init__(self, model: nn.Module):
        self.layers = [layer for _, layer in quantized_layers(model) if layer.weight_quantizer is not None]
        self.strength = 0.0

    def __call__(self) -> Tensor | float:
        terms = [term for layer in self.layers if (term := squared_distance(layer)) is not None]
        return self.strength * torch.stack(terms).sum() if terms else 0.0


def squared_distance(layer: QuantLayer) -> Tensor | None:
    """Return || center - clip(w, lowest center, highest center) ||^2 of a layer's weights w; None without bins.

    Centers are constants for the gradient, so that it is 2 * (clip(w) - center), and 0 outside of the range. Where the
    method is free of scale, it is the squared distance to the mean of the weights of the same code, in the same channel
    where channels have ranges of their own.
    """
    weight, quantizer = layer.weight, layer.weight_quantizer
    assert quantizer is not None
    fixed = weight.detach()
    if (bins := quantizer.bins(fixed)) is None:
        return None
    codes = quantizer.codes(fixed)[0]
    if quantizer.is_scale_free:
        return (weight - means_by_code(fixed, codes, bins.centers)).square().sum()
    centers = bins.centers.to(weight.dtype)
    return (torch.clamp(weight, centers[..., 0], centers[..., -1]) - values_at(centers, codes)).square().sum()


def means_by_code(weight: Tensor, codes: Tensor, centers: Tensor) -> Tensor:
    """Return for every weight the mean of those that have its code, in the same channel if `centers` are by channel."""
    place, exact = table_index(codes, centers), as_float(weight)  # in half precision, counts would stop at 256 or 2,048
    index, zeros = place.flatten(), exact.new_zeros(centers.numel())
    sums = zeros.index_add(0, index, exact.flatten())
    means = sums / zeros.index_add(0, index, torch.ones_like(exact).flatten()).clamp_min(1)
    return means[place].to(weight.dtype)
