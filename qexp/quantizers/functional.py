"""The weighted sum of grids that STE, BR and DQA quantize to: its definition, and the same as one fused operation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qexp.quantizers.base import straight_through
from qexp.quantizers.grids import ScaledGrid
from qexp.quantizers.numerics import (
    Scalar,
    add_product_,
    as_float,
    as_output,
    as_tensor,
    beside,
    dense,
    dot,
    float_copy,
    laid_out_as,
    precision,
    scalar,
    scalars,
    total,
)


def mix_grids_plain(
    x: Tensor,
    grids: Sequence[ScaledGrid],
    weights: Tensor | None = None,
    *,
    clip: tuple[Tensor, ...] | None = None,
    clipped: Sequence[bool] = (),
) -> Tensor:
    """Return sum_k weights[k] * Q_k(x) (DQA, eq. 3), every Q_k straight through: the definition of `mix_grids`.

    A grid that is clipped passes its gradient to what PACT's clip lets through: to x on [lower, upper], to lower from
    x <= lower, to upper from x >= upper.
    """
    values = [grid.to_levels(x.detach()) for grid in grids]
    sources = [x] * len(grids)
    if clip is not None:
        lower, upper = clip
        inside = x * ((x >= lower) & (x <= upper)) + lower * (x <= lower) + upper * (x >= upper)
        sources = [inside if own else x for own in clipped]
    quantized = [straight_through(source, value) for source, value in zip(sources, values, strict=True)]
    if weights is None:
        return quantized[0]
    return sum(weight * copy for weight, copy in zip(weights, quantized, strict=True))


def mix_grids(
    x: Tensor,
    grids: Sequence[ScaledGrid],
    weights: Tensor | None = None,
    *,
    clip: tuple[Tensor, ...] | None = None,
    clipped: Sequence[bool] = (),
) -> Tensor:
    """Return sum_k weights[k] * Q_k(x), of the shape and type of `x`, as one operation that saves `x` at most.

    Args:
        x: any shape; half precision is computed in single.
        grids: K of them.
        weights: (K,), adding up to 1; None for a single grid.
        clip: (lower, upper) of a range that clips (PACT), 0-dim; None for a gradient that passes everywhere.
        clipped: for each grid whether `clip` is its range.
    """
    lower, upper = clip or (None, None)
    part = None  # of the gradient that the clip decides about; None for all of it
    if weights is not None:
        weights = weights.to(precision(x))
        if clip and not all(clipped):
            part = torch.stack([weight for weight, own in zip(weights.detach(), clipped, strict=True) if own]).sum()
    return _MixedGrids.apply(x, weights, lower, upper, part, grids)


class _MixedGrids(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights: Tensor | None,
        lower: Tensor | None,
        upper: Tensor | None,
        part: Tensor | None,
        grids: Sequence[ScaledGrid],
    ) -> Tensor:
        x = dense(x)
        is_needed = upper is not None or ctx.needs_input_grad[1]
        ctx.save_for_backward(x if is_needed else None, lower, upper, part)
        ctx.grids = grids
        values = as_float(x)
        return as_output(grids[0].to_levels(values) if weights is None else _mixed(values, grids, weights), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lower, upper, part = ctx.saved_tensors
        if x is None:
            return grad, None, None, None, None, None
        values, upstream = as_float(x), as_float(laid_out_as(grad, x))
        to_weights = _weights_gradient(values, upstream, ctx.grids) if ctx.needs_input_grad[1] else None
        if upper is None:
            return grad, to_weights, None, None, None, None
        to_x, to_lower, to_upper = _clip_gradients(values, upstream, lower, upper, part)
        return as_output(to_x, x), to_weights, to_lower, to_upper, None, None


def _mixed(x: Tensor, grids: Sequence[ScaledGrid], weights: Tensor) -> Tensor:
    """Return the sum over k of weights[k] * (codes_k * scale_k + offset_k)."""
    numbers = scalars(weights)
    factors = [weight * grid.scale for weight, grid in zip(numbers, grids, strict=True)]
    offset = sum(weight * grid.offset for weight, grid in zip(numbers, grids, strict=True))
    mixture = grids[0].to_codes(x).mul_(beside(factors[0], x)).add_(beside(offset, x))
    for grid, factor in zip(grids[1:], factors[1:], strict=True):
        add_product_(mixture, grid.to_codes(x), factor)
    return mixture


def _weights_gradient(x: Tensor, grad: Tensor, grids: Sequence[ScaledGrid]) -> Tensor:
    """Return <grad, Q_k(x)> for every grid, shape (K,)."""
    whole = total(grad)

    def product(grid: ScaledGrid) -> Scalar:
        if any(isinstance(number, Tensor) and number.dim() for number in (grid.scale, grid.offset)):
            return dot(grid.to_levels(x), grad)  # each channel has a scale of its own
        return dot(grid.to_codes(x), grad) * grid.scale + whole * grid.offset

    return torch.stack([as_tensor(product(grid), x) for grid in grids])


def _clip_gradients(
    x: Tensor, grad: Tensor, lower: Tensor, upper: Tensor, part: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to x, without its `part` (None for all of it) outside of the clip, to lower and to upper."""
    share = 1.0 if part is None else scalar(part)
    low, high = scalar(lower), scalar(upper)
    below = dot(float_copy(x).le_(low), grad)  # comparisons in place give 1 or 0, without slow tensors of bool
    above = dot(float_copy(x).ge_(high), grad)
    outside = float_copy(x).lt_(low).add_(float_copy(x).gt_(high))
    to_x = outside.mul_(-share).add_(1).mul_(grad)
    return to_x, as_tensor(below * share, lower), as_tensor(above * share, upper)
