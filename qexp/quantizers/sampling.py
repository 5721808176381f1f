"""Samples of grid points under logistic noise (RQ, arXiv 1810.01875, eq. 2-7): the definition, and one operation.

The printed probabilities are 0 / 0 in single precision for values far outside of the grid. Here the factor that all
points share and the mass of the whole grid are left out, which cancel in every softmax, so that no "fuzz" is needed.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from qexp.quantizers.noise import draw
from qexp.quantizers.numerics import (
    Scalar,
    as_float,
    as_output,
    as_tensor,
    clamp_,
    dense,
    dot,
    laid_out_as,
    pieces,
    scalar,
)
from qexp.quantizers.relaxed import nearest_point

FAR = 36.0  # sigmas beyond the ends of the grid, where values lie at most: probabilities do not change any more


def sampled_plain(
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    k: Tensor,
    gumbel: Tensor,
    temperature: float,
    *,
    straight_through: bool = False,
) -> Tensor:
    """Return a sample of the points alpha k near x (eq. 2-5), of the shape of `x`: the definition of `sampled`.

    Args:
        x: any shape.
        alpha: 0-dim, distance of the points.
        sigma: 0-dim, scale of the noise.
        k: (K,), whole numbers.
        gumbel: (*x.shape, K), standard Gumbel noise.
        temperature: T of the softmax.
        straight_through: take the most probable point of this noise, with the gradient of the soft sample (RQ ST).
    """
    grid = alpha * k
    above, below = ((grid + half * alpha - x[..., None]) / sigma for half in (0.5, -0.5))
    scores = F.logsigmoid(above) + F.logsigmoid(-below) + gumbel
    shares = torch.softmax(scores / temperature, -1)
    if straight_through:
        chosen = F.one_hot(scores.argmax(-1), len(k)).to(x.dtype)
        shares = chosen + (shares - shares.detach())
    return (shares * grid).sum(-1)


class Sampling(NamedTuple):
    """How a sample is drawn.

    Attributes:
        low: k of the first point.
        high: k of the last one.
        halves: whether the points may lie half-way between whole numbers.
        first: the lowest point that a value may get, counted from its nearest point; None for the whole grid.
        points: how many, from there on.
        temperature: T.
        hard: in the forward pass (RQ ST).
    """

    low: Scalar
    high: Scalar
    halves: bool
    first: int | None
    points: int
    temperature: Scalar
    hard: bool


def sampled(x: Tensor, alpha: Tensor, sigma: Tensor, how: Sampling, key: Tensor) -> Tensor:
    """Return a sample of grid points, of the shape and type of `x`; differentiable in x, alpha and sigma.

    In exact arithmetic the same as `sampled_plain`, as one operation that saves its input only: the noise is drawn
    again in the backward pass.

    Args:
        x: any shape; half precision is computed in single.
        alpha: 0-dim.
        sigma: 0-dim.
        how: the grid, and how to draw.
        key: of the noise (`Noise.key`).
    """
    return _Sampled.apply(x, alpha, sigma, how, key)


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, sigma: Tensor, how: Sampling, key: Tensor) -> Tensor:
        x = dense(x)
        ctx.save_for_backward(x, alpha, sigma, key.clone())
        ctx.how = how
        found = torch.empty_like(x)
        for part, out, *noise in pieces(x, found, *_noise(x, how, key)):
            sample = _Sample(as_float(part), scalar(alpha), scalar(sigma), how, noise)
            out.copy_(sample.value())
        return as_output(found, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, sigma, key = ctx.saved_tensors
        upstream, to_x = laid_out_as(grad, x), torch.empty_like(x)
        sums: list[Scalar] = [0.0, 0.0]
        for part, weight, out, *noise in pieces(x, upstream, to_x, *_noise(x, ctx.how, key)):
            sample = _Sample(as_float(part), scalar(alpha), scalar(sigma), ctx.how, noise)
            found = sample.gradients(as_float(weight))
            out.copy_(found[0])
            sums = [before + own for before, own in zip(sums, found[1:], strict=True)]
        to_alpha, to_sigma = (as_tensor(own, of) for own, of in zip(sums, (alpha, sigma), strict=True))
        return as_output(to_x, x), to_alpha, to_sigma, None, None


def _noise(x: Tensor, how: Sampling, key: Tensor) -> tuple[Tensor, ...]:
    """Return exponential noise for each of the points; its negative logarithm is Gumbel noise."""
    return draw(key, as_float(x), how.points, True).unbind(0)


class _Sample:
    """The points of some values with their shares z, all in units of sigma; j counts points from the first one.

    An edge between two points lies t above its value; c = S(t) and its complement S(-t). With a and b the edges of a
    point, its probability is S(b) S(-a) but for a factor that all points share. With E exponential noise, softmax((log
    pi + Gumbel) / T) is (pi / E)^(1/T), but for its sum.
    """

    def __init__(self, x: Tensor, alpha: Scalar, sigma: Scalar, how: Sampling, noise: list[Tensor]):
        self.x, self.alpha, self.sigma, self.how = x, alpha, sigma, how
        width = alpha / sigma
        nearest = nearest_point(x, alpha, how.low, how.high, halves=how.halves)
        # From the nearest point, which has to be within reach of the values that lie outside.
        offset = clamp_((nearest * alpha - x).div_(sigma), -FAR - width / 2, FAR + width / 2)
        if how.first is None:
            self.start: Tensor | Scalar = how.low
            offset.add_((how.low - nearest).mul_(width))
        else:
            self.start = nearest + how.first
            offset.add_(how.first * width)
        self.edges = [offset + (j - 0.5) * width for j in range(how.points + 1)]
        self.below = [edge.sigmoid() for edge in self.edges]
        ratios = []
        for j, drawn in enumerate(noise):
            ratio = torch.neg(self.edges[j]).sigmoid_().mul_(self.below[j + 1]).div_(drawn)
            ratios.append(self._inside(ratio, nearest, j))
        self.ratios = ratios

    def _inside(self, ratio: Tensor, nearest: Tensor, j: int) -> Tensor:
        """Return a ratio, 0 where the point lies beyond the ends of the grid; in place."""
        first = self.how.first
        if first is None or first + j == 0:
            return ratio
        k = nearest + (first + j)
        return ratio.mul_(k.ge_(self.how.low) if first + j < 0 else k.le_(self.how.high))

    def _shares(self) -> list[Tensor]:
        """Return z of every point; the ratios are used up."""
        if not (isinstance(self.how.temperature, float) and self.how.temperature == 1.0):
            largest = self.ratios[0].clone()
            for ratio in self.ratios[1:]:
                torch.maximum(largest, ratio, out=largest)
            for ratio in self.ratios:  # by the largest first: the power of a small number is 0
                ratio.div_(largest).pow_(1 / self.how.temperature)
        total = self.ratios[0].clone()
        for ratio in self.ratios[1:]:
            total.add_(ratio)
        total.reciprocal_()
        return [ratio.mul_(total) for ratio in self.ratios]

    def _index(self, shares: list[Tensor]) -> Tensor:
        """Return the mean number of the points."""
        index = torch.zeros_like(shares[0])
        for j, share in enumerate(shares[1:], 1):
            index.add_(share, alpha=j)
        return index

    def _choice(self) -> Tensor:
        """Return the number of the point of the largest ratio, the first of several."""
        best, choice = self.ratios[0].clone(), torch.zeros_like(self.ratios[0])
        for j, ratio in enumerate(self.ratios[1:], 1):
            choice.masked_fill_(ratio > best, j)
            torch.maximum(best, ratio, out=best)
        return choice

    def value(self) -> Tensor:
        """Return the sample."""
        index = self._choice() if self.how.hard else self._index(self._shares())
        return index.add_(self.start).mul_(self.alpha)

    def _within_reach(self) -> Tensor:
        """Return the values, those far outside at FAR: a rounding error in their gradient times them is no number."""
        width = self.alpha / self.sigma
        reach = FAR + width / 2
        return clamp_(self.x / self.sigma, self.how.low * width - reach, self.how.high * width + reach)

    def gradients(self, grad: Tensor) -> tuple[Tensor, Scalar, Scalar]:
        """Return dL/dx, dL/dalpha and dL/dsigma.

        sigma dl/dx = S(a) + S(b) - 1, sigma dl/dsigma = a S(a) + b S(b) - b, and scaling x, alpha and sigma alike
        changes no probability, which gives the derivative by alpha.
        """
        choice = self._choice() if self.how.hard else None
        shares = self._shares()
        index = self._index(shares)
        value = (index if choice is None else choice) + self.start
        by_x, by_sigma = torch.zeros_like(grad), torch.zeros_like(grad)
        last = self.edges[0] * self.below[0]
        for j, share in enumerate(shares):
            moved = share.mul_(j - index)
            following = self.edges[j + 1] * self.below[j + 1]
            by_sigma.addcmul_(moved, last.add_(following).sub_(self.edges[j + 1]))
            by_x.addcmul_(moved, self.below[j].add_(self.below[j + 1]).sub_(1))
            last = following
        by_x.mul_(grad)
        scale = 1 / self.how.temperature
        to_sigma = dot(by_sigma, grad) * scale
        to_alpha = dot(value, grad) - dot(by_x, self._within_reach()) * scale - to_sigma
        return by_x.mul_(self.alpha / self.sigma * scale), to_alpha, to_sigma * self.alpha / self.sigma
