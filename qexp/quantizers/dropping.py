"""A grid of which points are dropped at random: gates, the most probable of the points left, and its gradient.

The gates are hard concrete ones (Louizos, Welling, Kingma 2018, arXiv 1712.01312), with the constants of its code.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from qexp.quantizers.masses import Run, Sums, log_weight, logarithm, weighed
from qexp.quantizers.numerics import (
    Scalar,
    add_product_,
    as_double,
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
    scalars,
    total,
)
from qexp.quantizers.srq import FAR, Backward

Sharing = Literal["bits", "points"]
LOWER, UPPER, TEMPERATURE = -0.1, 1.1, 2 / 3  # of the hard concrete distribution (Louizos et al. 2018)
LARGEST_LOGIT = math.log(100)
LEAST = 1e-6  # of the uniform numbers


def owners(bits: int, sharing: Sharing) -> tuple[int, ...]:
    """Return for |k| = 0, 1, .. which mask the points have; -1 for those always kept."""
    others = range(2, 2 ** (bits - 1))
    return (-1, -1, *(k.bit_length() - 2 if sharing == "bits" else k - 2 for k in others))


def _clamped(logits: Tensor) -> Tensor:
    return logits + (logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) - logits).detach()  # beyond it still has a gradient


def drawn_masks(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return hard concrete gates Z in 0 .. 1, of uniform random numbers of the shape of the logits."""
    u = uniform.clamp(LEAST, 1 - LEAST)
    gate = torch.sigmoid((u.log() - (-u).log1p() + _clamped(logits)) / TEMPERATURE)
    return (gate * (UPPER - LOWER) + LOWER).clamp(0, 1)


def kept_probability(logits: Tensor) -> Tensor:
    """Return P(Z != 0)."""
    return torch.sigmoid(_clamped(logits) - TEMPERATURE * math.log(-LOWER / UPPER))


def _of_points(masks: Tensor, owner: Tensor) -> Tensor:
    """Return the masks of |k| = 0, 1, ..; 1 for those that have none, which are at -1."""
    return torch.cat([masks, torch.ones_like(masks[:1])])[owner]


def bounds(masks: Tensor, owner: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return (t_1, .., t_n), rising, in double precision: the chosen |k| is the number of those that |x| has reached.

    The point k > j wins from x = sigma eta + (j + k) alpha / 2 on, where y = exp(eta) is the positive root of
    (1 - rho q) y^2 - 2 cosh(h) (rho - 1) exp(-delta) y - (rho - q) = 0, with rho = Z_j / Z_k, h = alpha / 2 sigma,
    delta = (k - j) h, q = exp(-2 delta). The noise is log-concave, so that each point wins on one interval.
    """
    alpha, sigma = as_double(alpha), as_double(sigma)
    h = alpha / sigma / 2
    z = as_double(_of_points(masks, owner))
    k = torch.arange(len(owner), device=masks.device, dtype=z.dtype)
    delta = (k[:, None] - k) * h  # row k, column j
    q, rho = torch.exp(-2 * delta), z / z[:, None]
    middle = (rho - 1) * (torch.exp(h - delta) + torch.exp(-h - delta)) / 2
    first, last = 1 - rho * q, rho - q
    root = (middle**2 + first * last).clamp_min(0).sqrt()
    y = torch.where(middle > 0, (middle + root) / first, last / (root - middle))
    found = sigma * (y.log() + (k[:, None] + k) * h)
    found = torch.where(last <= 0, -torch.inf, torch.where((first <= 0) | (z[:, None] <= 0), torch.inf, found))
    found = torch.where(k[:, None] > k, found, -torch.inf).amax(1)[1:]
    return found.flip(0).cummin(0).values.flip(0)


def dropped_plain(
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    masks: Tensor,
    owner: Tensor,
    *,
    backward: Backward,
    mask_backward: Backward,
) -> Tensor:
    """Return the most probable point under Z_i pi_i / sum_j Z_j pi_j: the definition of `dropped`."""
    k = torch.arange(1 - len(owner), len(owner), dtype=x.dtype)
    grid = alpha * k
    above, below = ((grid + half * alpha - x[..., None]) / sigma for half in (0.5, -0.5))
    probability = torch.softmax(F.logsigmoid(above) + F.logsigmoid(-below), -1)
    z = _of_points(masks, owner)[k.abs().long()]
    one_sided = ((probability * z.detach(), backward), (probability.detach() * z, mask_backward))
    chosen = F.one_hot(one_sided[0][0].argmax(-1), len(k)).to(x.dtype)
    found = chosen
    for product, which in one_sided:
        share = product / product.sum(-1, keepdim=True)
        share = share * chosen if which == "mode" else share
        found = found + (share - share.detach())
    return (found * grid).sum(-1)


def dropped(
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    masks: Tensor,
    owner: Tensor,
    *,
    owner_numbers: Sequence[int],
    backward: Backward,
    mask_backward: Backward,
) -> Tensor:
    """Return the chosen point of a symmetric grid; differentiable in x, alpha, sigma and masks.

    Args:
        x: any shape; half precision is computed in single.
        alpha: 0-dim, distance of the points.
        sigma: 0-dim, scale of the noise.
        masks: (m,), from 0 to 1.
        owner: for |k| = 0, 1, .. which of the masks, -1 for none; int64.
        owner_numbers: the same as numbers, since to read them from a tensor would wait for the device.
        backward: which probabilities have a gradient for x, alpha and sigma: the chosen one, or all.
        mask_backward: which have one for the masks.
    """
    return _Dropped.apply(x, alpha, sigma, masks, owner, tuple(owner_numbers), backward, mask_backward)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, sigma: Tensor, masks: Tensor, owner: Tensor, *how: Any) -> Tensor:
        x = dense(x)
        ctx.save_for_backward(x, alpha, sigma, masks, owner)
        ctx.how = how
        limits, found = bounds(masks, owner, alpha, sigma).to(precision(x)), torch.empty_like(x)
        for part, out in pieces(x, found):
            out.copy_(_chosen(as_float(part), limits).mul_(scalar(alpha)))
        return as_output(found, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, sigma, masks, owner = ctx.saved_tensors
        step, width = scalar(alpha), scalar(alpha) / scalar(sigma)
        limits = bounds(masks, owner, alpha, sigma)
        adding = _Adding(x, masks, owner, limits, width, *ctx.how, wants_masks=ctx.needs_input_grad[3])
        to_x, found = torch.empty_like(x), adding.zeros
        for part, upstream, out in pieces(x, laid_out_as(grad, x), to_x):
            slope, own = adding.gradients(as_float(part), as_float(upstream), scalar(sigma))
            found = [before + now for before, now in zip(found, own, strict=True)]
            out.copy_(slope.mul_(width))
        by_k, by_slope, by_spread, *by_masks = found
        to_masks = None
        if by_masks:
            by_log = torch.stack([as_tensor(own * step, masks).to(masks.device) for own in by_masks])
            to_masks = by_log / masks.clamp_min(torch.finfo(masks.dtype).tiny)  # where one is 0, that by its log is too
        to_alpha = as_tensor(by_k - by_slope - by_spread, alpha)
        return as_output(to_x, x), to_alpha, as_tensor(by_spread * width, sigma), to_masks, None, None, None, None


def _chosen(x: Tensor, limits: Tensor) -> Tensor:
    """Return k of the chosen points as floats."""
    return torch.bucketize(x.abs().contiguous(), limits, right=True).to(x.dtype).mul_(x.sign())


def _runs(owner: Sequence[int], log_masks: Sequence[Scalar], *, single: bool) -> list[Run]:
    """Return the points that have a mask above 0: each by itself, or neighbours of one mask together."""
    if single:
        alone = [(k, owner[abs(k)]) for k in range(1 - len(owner), len(owner))]
        found = [Run(k, 1, own, 0.0 if own < 0 else log_masks[own]) for k, own in alone]
    else:
        found = [Run(0, 3)]
        for mask in dict.fromkeys(own for own in owner if own >= 0):
            first, count = owner.index(mask), owner.count(mask)
            middle = first + (count - 1) / 2
            found += [Run(sign * middle, count, mask, log_masks[mask]) for sign in (-1, 1)]
    return [run for run in found if isinstance(run.log_mask, Tensor) or run.log_mask > -math.inf]


class _Adding:
    """What the gradient of a piece of the values is worked out with."""

    def __init__(
        self,
        like: Tensor,
        masks: Tensor,
        owner: Tensor,
        limits: Tensor,
        width: Scalar,
        numbers: Sequence[int],
        backward: Backward,
        mask_backward: Backward,
        *,
        wants_masks: bool,
    ):
        dtype = precision(like)
        self.limits, self.width = limits.to(dtype), width
        self.masks = len(masks) if wants_masks else 0
        self.backward, self.mask_backward = backward, mask_backward
        self.reach = (len(numbers) - 0.5) * width + FAR[dtype]
        self.by_k = backward == "all" or (wants_masks and mask_backward == "all")
        self.zeros: list[Scalar] = [0.0] * (3 + self.masks)
        self.runs = _runs(numbers, [logarithm(value) for value in scalars(masks)], single=self.by_k)
        self.owner, self.log_masks = owner, _of_points(masks, owner).log().to(dtype)

    def gradients(self, x: Tensor, grad: Tensor, sigma: Scalar) -> tuple[Tensor, list[Scalar]]:
        """Return dL/dx in units of alpha / sigma, and what a piece adds to single numbers.

        These are <grad, k>, <x / sigma, dL/dx>, and the derivatives by log sigma and by the log of each mask, all but
        the first two in units of alpha.
        """
        k, width = _chosen(x, self.limits), self.width
        size = k.abs().long()
        u = clamp_(x / sigma, -self.reach, self.reach)
        v = add_product_(u.clone(), k, -width)
        reference = log_weight(v, width / 2).add_(self.log_masks[size])
        sums = Sums(u, by_k=self.by_k, masks=self.masks > 0)
        sums.add(u, self.runs, width, reference)
        weight = grad * k / sums.whole
        if self.backward == "all":
            slope, spread = sums.expected_slope().mul_(grad), sums.expected_spread().mul_(grad)
        else:
            own = weighed(v, width / 2, 0.0, reference)
            slope = (own.slope - sums.slope / sums.whole).mul_(weight)
            spread = (own.spread - sums.spread / sums.whole).mul_(weight)
        by_masks = self._by_masks(sums, grad, weight, self.owner[size]) if self.masks else ()
        return slope, [dot(grad, k), dot(slope, u), total(spread), *by_masks]

    def _by_masks(self, sums: Sums, grad: Tensor, weight: Tensor, owner: Tensor) -> list[Scalar]:
        """Return the derivatives by the logarithms of the masks, in units of alpha."""
        found: list[Scalar] = [0.0] * self.masks
        assert sums.masks is not None
        share = grad / sums.whole
        for mask, (weights, by_k) in sums.masks.items():
            if self.mask_backward == "all":
                assert sums.by_k is not None
                found[mask] = dot(share, by_k - sums.by_k[0] / sums.whole * weights)
            else:
                found[mask] = dot(weight, (owner == mask).to(weight.dtype) - weights / sums.whole)
        return found
