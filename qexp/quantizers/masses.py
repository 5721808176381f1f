"""Sums over the bins of a grid under logistic noise: of their masses, and of the derivatives of the masses' logarithms.

The mass that noise of scale sigma puts on a bin, of half-width r and at distance s from the value (both in units of
sigma), is (1 - exp(-2r)) S(r - s) S(r + s), S = sigmoid. All weights are relative to that of a reference, so that
nothing underflows wherever a value lies; bins may be single points or runs of neighbouring ones.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from qexp.quantizers.numerics import Scalar, add_product_


def exponential(value: Scalar) -> Scalar:
    """Return exp of a number."""
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def logarithm(value: Scalar) -> Scalar:
    """Return log of a number; minus infinity for 0."""
    return value.log() if isinstance(value, Tensor) else math.log(value) if value > 0 else -math.inf


class Run(NamedTuple):
    """Neighbouring points of a grid that share a mask.

    Attributes:
        centre: k of the middle; relative to the chosen point, where values are.
        points: how many.
        mask: which mask is theirs; -1 for points that are always kept.
        log_mask: logarithm of its value; a tensor of the shape of the values for another one at each.
    """

    centre: Scalar
    points: int = 1
    mask: int = -1
    log_mask: Scalar = 0.0


class Weighed(NamedTuple):
    """One run at all values.

    Attributes:
        weight: mass times mask, over that of the reference.
        slope: derivative of log mass by the value, times sigma.
        spread: derivative of log mass by log sigma.
    """

    weight: Tensor
    slope: Tensor
    spread: Tensor


def log_weight(s: Tensor, half: Scalar) -> Tensor:
    """Return the logarithm of the mass of a bin, in a new tensor.

    Args:
        s: value minus middle of the bin, in units of sigma.
        half: half-width of the bin, in the same units.
    """
    return F.logsigmoid(half - s).add_(F.logsigmoid(s + half)).add_(logarithm(1 - exponential(-2 * half)))


def weighed(s: Tensor, half: Scalar, log_mask: Scalar, reference: Tensor) -> Weighed:
    """Return what a bin adds to sums; `log_weight` has the first two arguments."""
    outer = exponential(-2 * half)
    upper, lower = F.logsigmoid(half - s), F.logsigmoid(s + half)
    weight = torch.add(upper, lower).add_(logarithm(1 - outer)).add_(log_mask).sub_(reference).exp_()
    upper, lower = upper.exp_(), lower.exp_()
    slope = upper - lower
    spread = upper.mul_(lower).mul_(half * (1 - outer)).sub_(half * (1 + outer) / (1 - outer))
    return Weighed(weight, slope, spread.addcmul_(s, slope, value=-1))


class Sums:
    """Sums over runs, at each of some values.

    Attributes:
        whole: of weights; one over it is the probability of the reference.
        slope: of weight * slope.
        spread: of weight * spread.
        by_k: the same three, each weight times the k of its run; None where they are not asked for.
        masks: mask -> (sum of its weights, the same times k).
    """

    def __init__(self, x: Tensor, *, by_k: bool, masks: bool):
        self.whole, self.slope, self.spread = (torch.zeros_like(x) for _ in range(3))
        self.by_k = [torch.zeros_like(x) for _ in range(3)] if by_k else None
        self.masks: dict[int, tuple[Tensor, Tensor]] | None = {} if masks else None

    def add(self, x: Tensor, runs: Iterable[Run], width: Scalar, reference: Tensor) -> None:
        """Add runs; `width` is that of a point, in units of sigma, and `x` in the same, from where runs count."""
        for run in runs:
            s = x - run.centre * width
            weight, slope, spread = weighed(s, run.points * width / 2, run.log_mask, reference)
            terms = (weight, slope.mul_(weight), spread.mul_(weight))
            for found, term in zip((self.whole, self.slope, self.spread), terms, strict=True):
                found.add_(term)
            if self.by_k is not None:
                for found, term in zip(self.by_k, terms, strict=True):
                    add_product_(found, term, run.centre)
            if self.masks is not None and run.mask >= 0:
                own = self.masks.setdefault(run.mask, (torch.zeros_like(x), torch.zeros_like(x)))
                own[0].add_(weight)
                add_product_(own[1], weight, run.centre)

    def expected_slope(self) -> Tensor:
        """Return the derivative of the mean k by the value, times sigma."""
        assert self.by_k is not None
        return self._covariance(self.by_k[1], self.slope)

    def expected_spread(self) -> Tensor:
        """Return the derivative of the mean k by log sigma."""
        assert self.by_k is not None
        return self._covariance(self.by_k[2], self.spread)

    def _covariance(self, by_k: Tensor, plain: Tensor) -> Tensor:
        assert self.by_k is not None
        return (by_k - self.by_k[0] / self.whole * plain).div_(self.whole)
