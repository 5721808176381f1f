"""The methods' formulas in plain tensor operations and autograd, which the fast forms in qexp are held against."""

import math

import torch
from torch import Tensor


def uniform(x: Tensor, lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """The nearest of 2**bits evenly spaced levels from `lower` to `upper` (DQA, eq. 13 with the offset it lacks)."""
    steps = 2**bits - 1
    step = (upper - lower) / steps
    return ((x - lower) / step).round().clamp(0, steps) * step + lower


def weighted_sum(copies: list[Tensor], weights: Tensor) -> Tensor:
    """sum_k weights[k] * copies[k] (DQA, eq. 3)."""
    return sum(copy * weight for copy, weight in zip(copies, weights, strict=True))


def distance_aware(
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    bits: int,
    *,
    sigma: float,
    gamma: float,
    fixed: float | None = None,
) -> Tensor:
    """D of the DAQ paper, in 0 .. 2**bits - 1: two scores, a kernel around the nearer level, a soft argmax over both.

    With `fixed` the soft argmax has that temperature and plain levels; else the controller gamma / |s0 - s1| and the
    stretched levels that make it end on a level.
    """
    steps = 2**bits - 1
    t = ((x - lower) / ((upper - lower) / steps)).clamp(0, steps)
    floor = t.detach().floor().clamp_max(steps - 1)
    r = t - floor
    nearer = (r.detach() > 0.5).to(x.dtype)
    scores = [torch.exp(-((level - nearer) ** 2) / sigma**2) * torch.exp(-(r - level).abs()) for level in (0, 1)]
    if fixed is not None:
        return floor + torch.softmax(fixed * torch.stack(scores), 0)[1]
    share = torch.softmax(gamma / (scores[0] - scores[1]).abs().detach() * torch.stack(scores), 0)
    stretch = 1 / math.expm1(gamma)
    return floor - stretch * share[0] + (1 + stretch) * share[1]
