"""Dampening: a penalty that pulls latent weights to the middle of their bins.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", ICML 2022 (arXiv 2203.11086), section 4.1:
lambda times the sum over layers of || s * w_int - clip(w, s * n, s * p) ||_F^2, without gradient through s * w_int.
Here s * w_int is the center of a weight's bin, so that it is one penalty for every method whose bins are known.

A limit: where a range follows from the spread of the weights and its outer centers lie far out (DAQ with 1 and 2 bits,
at 3 deviations), the pull outwards widens the range that it pulls to, and weights grow with every step
(docs/design.md).
"""

import torch
from torch import Tensor, nn

from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.layers import QuantLayer


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

    Centers are constants for the gradient, so that it is 2 * (clip(w) - center), and 0 outside of the range.
    """
    weight, quantizer = layer.weight, layer.weight_quantizer
    assert quantizer is not None
    fixed = weight.detach()
    if (bins := quantizer.bins(fixed)) is None:
        return None
    centers = bins.centers.to(weight.dtype)
    with torch.no_grad():
        center = centers[quantizer.codes(fixed)[0].int()]
    return (torch.clamp(weight, centers[0], centers[-1]) - center).square().sum()
