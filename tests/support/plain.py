"""The methods' formulas in plain tensor operations and autograd, which the fast forms in qexp are held against."""

import math

import torch
from torch import Tensor

from qexp.quantizers.daq import DAQActivation, DAQWeight
from qexp.quantizers.mixture import GridQuantizer
from qexp.quantizers.pact import PactRange
from qexp.quantizers.ranges import RunningMinMaxRange


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


def mix_forward(self: GridQuantizer, x: Tensor) -> Tensor:
    """What the `forward` of a mix of uniform grids is: straight through, or with the original gradient of PACT."""
    (estimator,) = self.range_estimators
    if isinstance(estimator, PactRange):
        upper = estimator.alpha
        lower = -estimator.signed * upper
        inside = torch.where(x >= upper, upper, torch.where(x <= lower, lower, x))
        clipped = inside + ((x >= lower) & (x <= upper)) * (x - x.detach())  # x on a bound counts twice
        carrier = torch.where((x == lower) | (x == upper), clipped, inside)
    else:
        lower, upper, carrier = x.detach().min(), x.detach().max(), x
        if isinstance(estimator, RunningMinMaxRange):
            estimator.update((lower, upper))
    weights = self.mixing_weights()
    bits = [grid.bits for grid in self.grids]
    copies = [uniform(x.detach(), lower.detach(), upper.detach(), width) for width in bits]
    mixed = copies[0] if weights is None else weighted_sum(copies, weights)
    return mixed + (carrier - carrier.detach())


def daq_forward(self: DAQWeight | DAQActivation, x: Tensor, scale: Tensor | None = None) -> Tensor:
    """What the `forward` of DAQ's quantizers is: the paper's soft argmax, on the standardized weight or the input."""
    is_weight = isinstance(self, DAQWeight)
    if is_weight:
        x = (x - x.detach().mean()) / x.detach().std()
    steps = 2**self.bits - 1
    index = distance_aware(x, self.lower, self.upper, self.bits, sigma=self.sigma, gamma=self.gamma)
    levels = (index * (1 + self.signed) - self.signed * steps) / steps
    return levels if scale is None else levels * scale.abs()
