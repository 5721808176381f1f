"""Weights on a threshold: which lie so near to one that rounding decides their code, and what they would be beside it.

Under a straight-through estimator a weight whose best value lies between two levels oscillates around the threshold,
and a learning rate that ends at 0 leaves it there (Nagel et al., ICML 2022, arXiv 2203.11086).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Quantizer
from qexp.quantizers.channels import place_among, values_at
from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.numerics import as_double

WITHIN = {"within_1e-6": 1e-6, "within_1e-5": 1e-5}  # steps from a threshold


class NearestThreshold(NamedTuple):
    """What lies around each weight of a tensor; all three are of its shape.

    Attributes:
        codes: uint8, as the quantizer has them.
        others: uint8, the codes on the other side of the nearest threshold.
        distances: to that threshold in steps, in double precision; infinite where the code is on neither side of it.
    """

    codes: Tensor
    others: Tensor
    distances: Tensor

    def count(self, within: float) -> int:
        """Return the number of weights at most `within` steps from a threshold."""
        return int((self.distances <= within).sum())


@torch.no_grad()
def nearest_threshold(quantizer: Quantizer, weight: Tensor) -> NearestThreshold | None:
    """Return what lies around each weight; None for a quantizer that does not tell where its codes change.

    The threshold j lies between the codes j and j + 1. Which of the two a weight has is what the quantizer says, whose
    arithmetic is in single precision.

    Args:
        quantizer: of the weight.
        weight: any shape.
    """
    bins = quantizer.bins(weight)
    if bins is None or bins.thresholds.shape[-1] == 0:
        return None
    x, thresholds = as_double(weight).contiguous(), bins.thresholds
    nearest = place_among((thresholds[..., 1:] + thresholds[..., :-1]) / 2, x)
    distances = (x - values_at(thresholds, nearest)).abs_().div_(bins.step)
    codes = quantizer.codes(weight)[0]
    others = (2 * nearest + 1).sub_(codes)
    is_beside = (others - nearest).mul_(2).sub_(1).abs_() == 1  # one of the two codes at the threshold
    return NearestThreshold(
        codes,
        torch.where(is_beside, others, codes).to(torch.uint8),
        distances.masked_fill_(~is_beside, torch.inf),
    )


def nearest_thresholds(model: nn.Module) -> dict[str, NearestThreshold]:
    """Return layer name -> what lies around its quantized weights."""
    found = {}
    for name, layer in quantized_layers(model):
        if layer.weight_quantizer is not None:
            near = nearest_threshold(layer.weight_quantizer, layer.weight)
            if near is not None:
                found[name] = near
    return found


def crowds(layers: Sequence[NearestThreshold]) -> dict[str, int]:
    """Return how many weights are `within_1e-6` and `within_1e-5` steps of a threshold."""
    return {key: sum(layer.count(within) for layer in layers) for key, within in WITHIN.items()}


def drawn_codes(
    layers: Mapping[str, NearestThreshold], within: float, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Return layer name -> codes, where each weight near a threshold has taken its side by a fair coin.

    Args:
        layers: as `nearest_thresholds` returned them; those without a weight that near are left out.
        within: how near, in steps.
        generator: of the coins, on the CPU, so that they fall alike on every device; None for the codes as they are.
    """
    found = {}
    for name, near in layers.items():
        is_near = near.distances <= within
        if count := int(is_near.sum()):
            found[name] = codes = near.codes.clone()
            if generator is not None:
                coins = torch.randint(2, (count,), generator=generator, dtype=torch.bool).to(codes.device)
                codes[is_near] = torch.where(coins, near.others[is_near], codes[is_near])
    return found
