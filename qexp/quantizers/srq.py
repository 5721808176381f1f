"""SRQ, Semi-Relaxed Quantization (arXiv 1911.12990), later CPQ, Cluster-Promoting Quantization (2109.02100).

A reading, not verified by the authors' code: neither the method sections nor any code of the two papers could be had.

The grid, the noise and the probabilities pi of its points are those of RQ (arXiv 1810.01875), without Gumbel noise.
Forward, the most probable point is taken, which is the nearest one: training and evaluation round alike. Backward, two
readings of which gradient the one-hot choice passes to pi:

* mode: dL/dpi = dL/dy for the chosen point, 0 for all others. Only this one gathers weights at grid points, which is
  what CPQ claims. A value on a point of k = 0 gets no gradient from it.
* all: dL/dpi = dL/dy for every point, so that the gradient is that of the mean of the grid under pi. What inputs have:
  under `mode` their gradient changes sign within every bin, and deep nets do not train.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from qexp.quantizers.base import LayerInfo, Method
from qexp.quantizers.expectation import mean_slopes
from qexp.quantizers.masses import Run, Sums, exponential, log_weight
from qexp.quantizers.numerics import (
    Scalar,
    add_product_,
    as_float,
    as_output,
    as_tensor,
    clamp_,
    dense,
    dot,
    laid_out_as,
    pieces,
    precision,
    scalar,
    total,
)
from qexp.quantizers.relaxed import RelaxedQuantizer, nearest_point, rounded

Backward = Literal["mode", "all"]
FAR = {torch.float32: 15.0, torch.float64: 36.0}  # sigmas beyond the ends, where values lie for the gradient at most
MOST_POINTS = 16  # of a grid whose mean is summed over all its points; of a wider one over so many on either side


def semi_relaxed_plain(
    x: Tensor, alpha: Tensor, sigma: Tensor, low: float, high: float, *, backward: Backward = "mode"
) -> Tensor:
    """Return the most probable of the points alpha k, k = low .. high, the gradient going to probabilities.

    The definition of `semi_relaxed`; whole numbers as ends, or halves.
    """
    grid = alpha * torch.arange(low, high + 1, dtype=x.dtype, device=x.device)
    above, below = ((grid + half * alpha - x[..., None]) / sigma for half in (0.5, -0.5))
    probability = torch.softmax(F.logsigmoid(above) + F.logsigmoid(-below), -1)
    chosen = F.one_hot(probability.argmax(-1), len(grid)).to(x.dtype)
    relaxed = probability * chosen if backward == "mode" else probability
    return ((chosen + (relaxed - relaxed.detach())) * grid).sum(-1)


def semi_relaxed(
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    low: Scalar,
    high: Scalar,
    *,
    backward: Backward = "mode",
    halves: bool = False,
    points: int = 256,
) -> Tensor:
    """Return the nearest of the points alpha k, of the shape and type of `x`; differentiable in x, alpha and sigma.

    In exact arithmetic the same as `semi_relaxed_plain`, as one operation that saves its input only.

    Args:
        x: any shape; half precision is computed in single.
        alpha: 0-dim, distance of the points.
        sigma: 0-dim, scale of the noise.
        low: k of the first point.
        high: k of the last point.
        backward: which probabilities get a gradient.
        halves: whether the ends may lie half-way between whole numbers.
        points: how many there are at most.
    """
    return _SemiRelaxed.apply(x, alpha, sigma, low, high, backward, halves, points)


class _SemiRelaxed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, sigma: Tensor, low: Scalar, high: Scalar, *fixed: Any) -> Tensor:
        x = dense(x)
        ctx.save_for_backward(x, alpha, sigma)
        ctx.low, ctx.high, ctx.fixed = low, high, fixed
        return rounded(x, scalar(alpha), low, high, halves=fixed[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, sigma = ctx.saved_tensors
        which, halves, points = ctx.fixed
        upstream = laid_out_as(grad, x)
        ends = (scalar(alpha), scalar(sigma), ctx.low, ctx.high)
        if which == "mode":
            to_x, *others = _by_the_chosen(x, upstream, *ends, halves=halves)
        else:
            by_the_mean = _by_the_mean if points <= MOST_POINTS else _by_the_mean_nearby
            to_x, *others = by_the_mean(x, upstream, *ends, halves=halves, points=points)
        to_alpha, to_sigma = (as_tensor(own, of) for own, of in zip(others, (alpha, sigma), strict=True))
        return to_x, to_alpha, to_sigma, None, None, None, None, None


def _zeros(count: int) -> list[Scalar]:
    return [0.0] * count


def _by_the_chosen(
    x: Tensor, grad: Tensor, alpha: Scalar, sigma: Scalar, low: Scalar, high: Scalar, *, halves: bool
) -> tuple[Tensor, Scalar, Scalar]:
    """Return dL/dx, dL/dalpha and dL/dsigma where only the chosen probability p / N gets a gradient.

    With h and H the half-widths of a bin and of the grid, v and V the distances of x from their middles, all in units
    of sigma: p = (1 - exp(-2h)) S(h - v) S(h + v), N the same with H and V; sigma d log p / dx = S(h - v) - S(h + v);
    alpha d log p / d alpha = h coth h - h p + 2 h k (S(h + v) - S(h - v)), and N's in the same way.
    """
    h = alpha / sigma / 2
    wide, middle = h * (high - low + 1), h * (high + low)
    thin, outer = exponential(-2 * h), exponential(-2 * wide)
    bound = wide + FAR[precision(x)]
    to_x, sums = torch.empty_like(x), _zeros(7)
    share = alpha * (1 - thin) / (1 - outer)
    for part, upstream, out in pieces(x, grad, to_x):
        part, upstream = as_float(part), as_float(upstream)  # noqa: PLW2901
        k = nearest_point(part, alpha, low, high, halves=halves)
        u = clamp_(part / sigma, middle - bound, middle + bound)
        v = add_product_(u.clone(), k, -2 * h)
        upper, lower = (h - v).sigmoid_(), v.add_(h).sigmoid_()
        top, bottom = (wide + middle - u).sigmoid_(), (u + (wide - middle)).sigmoid_()
        mass, slope = upper * lower, lower.sub_(upper)
        whole, tilt = top * bottom, bottom.sub_(top)
        weight = upstream * k
        found = [total(weight), dot(weight, mass)]
        weight.mul_(mass).div_(whole)
        found += [total(weight), dot(weight, mass), dot(weight, tilt)]
        found += [dot(slope.mul_(weight), k), dot(weight.mul_(tilt).sub_(slope), u)]
        sums = [before + own for before, own in zip(sums, found, strict=True)]
        out.copy_(weight.mul_(share / sigma))
    by_k, by_whole, by_one, by_mass, by_tilt, by_slope, by_u = sums
    constant = h * (1 + thin) / (1 - thin) - wide * (1 + outer) / (1 - outer)
    inner = constant * by_one - h * (1 - thin) * by_mass + 2 * h * by_slope
    inner = inner + wide * (1 - outer) * by_whole - middle * by_tilt
    # Scaling x, alpha and sigma alike changes no probability, so the three derivatives add up.
    return as_output(to_x, x), by_k + share * inner / alpha, -share * (by_u + inner) / sigma


def _by_the_mean(
    x: Tensor, grad: Tensor, alpha: Scalar, sigma: Scalar, low: Scalar, high: Scalar, *, halves: bool, points: int
) -> tuple[Tensor, Scalar, Scalar]:
    """Return dL/dx, dL/dalpha and dL/dsigma where all probabilities get a gradient: that of the mean of the grid.

    About the middle of the grid, of half-width H, and summed by parts: with c = S(edge - |x|) at the edges between
    bins, C and c_0 at its ends and m the k of its last point, all in units of sigma, the mean k is
    (m (C + c_0) - sum of c) / (C - c_0). What lies below the middle is mirrored: there the differences would cancel.
    """
    h = alpha / sigma / 2
    count, middle = high - low + 1, h * (high + low)
    wide, most = h * count, (count - 1) / 2
    reach = wide + FAR[precision(x)]
    to_x, sums = torch.empty_like(x), _zeros(4)
    for part, upstream, out in pieces(x, grad, to_x):
        part, upstream = as_float(part), as_float(upstream)  # noqa: PLW2901
        k = nearest_point(part, alpha, low, high, halves=halves)
        u = clamp_(part / sigma, middle - reach, middle + reach)
        from_middle = u - middle
        distance = from_middle.abs()
        upper, lower = (wide - distance).sigmoid_(), (-wide - distance).sigmoid_()
        whole, mean = upper - lower, (upper + lower).mul_(most)
        slope, spread = torch.zeros_like(u), torch.zeros_like(u)
        for edge, share in _inner_edges(count, h, points):
            below = (edge - distance).sigmoid_()
            add_product_(mean, below, -share)
            below.addcmul_(below, below, value=-1)
            add_product_(slope, below, share)
            add_product_(spread, below, share * edge)
        mean.div_(whole)
        upper.addcmul_(upper, upper, value=-1).mul_(mean - most)
        lower.addcmul_(lower, lower, value=-1).mul_(mean + most)
        slope.add_(upper).sub_(lower).div_(whole).mul_(upstream)
        spread = add_product_(spread, upper.add_(lower), wide).div_(whole).mul_(from_middle.sign())
        found = (dot(upstream, k), dot(slope, u), dot(spread, upstream), dot(slope, from_middle))
        sums = [before + own for before, own in zip(sums, found, strict=True)]
        out.copy_(slope.mul_(2 * h))
    by_k, by_u, by_edges, by_distance = sums
    by_spread = by_edges - by_distance
    return as_output(to_x, x), by_k - by_u - by_spread, by_spread * 2 * h


def _inner_edges(count: Scalar, h: Scalar, points: int) -> Iterator[tuple[Scalar, Scalar]]:
    """Yield the edges between bins, from the middle of the grid, each with 1; with 0 where there may be fewer bins."""
    for j in range(1, points):
        share = (count - j).clamp(0, 1) if isinstance(count, Tensor) else float(j < count)
        if isinstance(share, Tensor) or share:
            yield h * (2 * j - count), share


def _by_the_mean_nearby(
    x: Tensor, grad: Tensor, alpha: Scalar, sigma: Scalar, low: Scalar, high: Scalar, *, halves: bool, points: int
) -> tuple[Tensor, Scalar, Scalar]:
    """Return the same of a wide grid, summed over the chosen point and the next ones on either side of it."""
    width, reach = alpha / sigma, FAR[precision(x)]
    first, last = (low - 0.5) * width - reach, (high + 0.5) * width + reach
    to_x, sums = torch.empty_like(x), _zeros(3)
    for part, upstream, out in pieces(x, grad, to_x):
        part, upstream = as_float(part), as_float(upstream)  # noqa: PLW2901
        k = nearest_point(part, alpha, low, high, halves=halves)
        u = clamp_(part / sigma, first, last)
        if points <= MOST_POINTS:
            slope, spread = mean_slopes(u - (low + high) / 2 * width, high - low + 1, width, points)
        else:
            slope, spread = _near_slopes(u, k, width, low, high)
        found = (dot(upstream, k), dot(slope.mul_(upstream), u), dot(spread, upstream))
        sums = [before + own for before, own in zip(sums, found, strict=True)]
        out.copy_(slope.mul_(width))
    by_k, by_slope, by_spread = sums
    return as_output(to_x, x), by_k - by_slope - by_spread, by_spread * width


def _near_slopes(u: Tensor, k: Tensor, width: Scalar, low: Scalar, high: Scalar) -> tuple[Tensor, Tensor]:
    """Return what `mean_slopes` does, of the points around the nearest one, which is k."""
    v = add_product_(u.clone(), k, -width)
    mean, reference = Sums(u, by_k=True, masks=False), log_weight(v, width / 2)
    for j in range(-MOST_POINTS, MOST_POINTS + 1):
        inside = torch.where((k >= low - j) & (k <= high - j), 0.0, -torch.inf).to(u.dtype)
        mean.add(v, [Run(j, log_mask=inside)], width, reference)
    return mean.expected_slope(), mean.expected_spread()


class SRQQuantizer(RelaxedQuantizer):
    """The nearest point of a learned grid; the gradient by learned noise.

    Weights have k = -(2^(b-1)-1) .. 2^(b-1)-1, or from -2^(b-1) on the full grid; inputs 0 .. 2^b-1, where calibration
    saw negative ones the symmetric grid, of 1 bit k = -1/2 and 1/2.
    """

    def __init__(self, bits: int, *, of_inputs: bool, backward: Backward, full: bool = False):
        super().__init__(bits, of_inputs=of_inputs)
        self.backward, self.full = backward, full

    @property
    def k_low(self) -> Scalar:
        if not self.of_inputs:
            return 1 - 2 ** (self.widest - 1) - self.full
        return -scalar(self.signed) * self._half

    @property
    def k_high(self) -> Scalar:
        if not self.of_inputs:
            return 2 ** (self.widest - 1) - 1
        most = 2**self.widest - 1
        return most - scalar(self.signed) * (most - self._half)

    @property
    def _half(self) -> float:
        """The largest k of signed inputs."""
        return 0.5 if self.widest == 1 else 2 ** (self.widest - 1) - 1

    def forward(self, x: Tensor) -> Tensor:
        ends = (self.alpha, self.sigma, self.k_low, self.k_high)
        return semi_relaxed(x, *ends, backward=self.backward, halves=self.halves, points=2**self.widest)


@dataclass(frozen=True, kw_only=True)
class SRQ(Method):
    """The nearest point, and the gradient of its probability; a reading, not verified by the authors' code.

    Attributes:
        backward: which probabilities of weights get a gradient, that of the chosen point or all.
        activation_backward: the same for inputs.
        grid: of weights, 2^b - 1 points around 0 or one more at the negative end.
    """

    weight_bits = range(2, 9)

    backward: Backward
    activation_backward: Backward
    grid: Literal["symmetric", "full"]

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> SRQQuantizer:
        return SRQQuantizer(bits, of_inputs=False, backward=self.backward, full=self.grid == "full")

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> SRQQuantizer:
        return SRQQuantizer(bits, of_inputs=True, backward=self.activation_backward)
