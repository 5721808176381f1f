"""Projection onto a weighted sum of grids, as one operation that saves nothing but its input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qexp.quantizers.grids import ScaledGrid
from qexp.quantizers.numerics import (
    add_product_,
    as_float,
    as_tensor,
    dense,
    dot,
    float_copy,
    laid_out_as,
    scalar,
    scalars,
    total,
)


def project(
    x: Tensor,
    grids: Sequence[ScaledGrid],
    weights: Tensor | None = None,
    *,
    clip: tuple[Tensor, ...] | None = None,
    clipped: Sequence[bool] = (),
) -> Tensor:
    """Return sum_k weights[k] * grid_k(x) (DQA, eq. 3), of the shape and type of `x`.

    The gradient to `x` is the upstream gradient (straight through); that to weight k is its product with grid_k(x),
    summed up. Grids that are clipped stop their part of the gradient outside of `clip`, and its lower or upper receives
    it (PACT).

    Args:
        x: any shape.
        grids: K of them.
        weights: (K,), adding up to 1; None for a single grid.
        clip: (lower, upper), 0-dim; a value equal to one of them keeps its gradient, and the bound gets it as well.
        clipped: which grids `clip` belongs to.
    """
    lower, upper = clip or (None, None)
    part = None  # of the gradient that the clip decides about; None for all of it
    if weights is not None:
        weights = weights.to(as_float(x[:0]).dtype)
        if clip and not all(clipped):
            part = torch.stack([weight for weight, own in zip(weights.detach(), clipped, strict=True) if own]).sum()
    return _Projection.apply(x, weights, lower, upper, part, grids)


class _Projection(torch.autograd.Function):
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
        return (grids[0].to_levels(values) if weights is None else _mixed(values, grids, weights)).to(x.dtype)

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
        return to_x.to(x.dtype), to_weights, to_lower, to_upper, None, None


def _mixed(x: Tensor, grids: Sequence[ScaledGrid], weights: Tensor) -> Tensor:
    """Return the sum over k of weights[k] * (codes_k * scale_k + offset_k)."""
    numbers = scalars(weights)
    factors = [weight * grid.scale for weight, grid in zip(numbers, grids, strict=True)]
    offset = sum(weight * grid.offset for weight, grid in zip(numbers, grids, strict=True))
    mixture = grids[0].to_codes(x).mul_(factors[0]).add_(offset)
    for grid, factor in zip(grids[1:], factors[1:], strict=True):
        add_product_(mixture, grid.to_codes(x), factor)
    return mixture


def _weights_gradient(x: Tensor, grad: Tensor, grids: Sequence[ScaledGrid]) -> Tensor:
    """Return <grad, grid_k(x)> for every grid, shape (K,)."""
    whole = total(grad)
    sums = [dot(grid.to_codes(x), grad) * grid.scale + whole * grid.offset for grid in grids]
    return torch.stack([as_tensor(value, x) for value in sums])


def _clip_gradients(
    x: Tensor, grad: Tensor, lower: Tensor, upper: Tensor, part: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to x, without its `part` (None for all of it) outside of the clip, to lower and to upper."""
    share = 1.0 if part is None else scalar(part)
    low, high = scalar(lower), scalar(upper)
    below = dot(float_copy(x).le_(low), grad)
    above = dot(float_copy(x).ge_(high), grad)
    outside = float_copy(x).lt_(low).add_(float_copy(x).gt_(high))
    to_x = outside.mul_(-share).add_(1).mul_(grad)
    return to_x, as_tensor(below * share, lower), as_tensor(above * share, upper)
