"""Pure tensor functions that the methods are made of."""

from typing import Any

import torch
from torch import Tensor

TINY = 1e-12  # keeps the width of a degenerate range off zero


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor) -> Tensor:
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        return grad, grad if ctx.needs_input_grad[1] else None


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """Return `quantized`; its gradient goes to `x` unchanged (the straight-through estimator) and to `quantized`."""
    return _StraightThrough.apply(x, quantized)


def as_float(x: Tensor) -> Tensor:
    """Return `x` in at least single precision: bf16 arithmetic moves values to other levels."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def uniform_levels(lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """Return the 2**bits evenly spaced levels from `lower` to `upper` (DQA, eq. 10), shape (2**bits,)."""
    steps = 2**bits - 1
    step = (upper - lower).clamp_min(TINY) / steps
    return torch.arange(steps + 1, device=lower.device, dtype=lower.dtype) * step + lower


def uniform_codes(x: Tensor, lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """Return the index of the nearest level, as floats of the shape of `x`.

    Equation 13 of the DQA paper with the offset that its print lacks: round((x - lower) / step), kept in range.
    """
    steps = 2**bits - 1
    step = (upper - lower).clamp_min(TINY) / steps
    return ((x - lower) / step).round_().clamp_(0, steps)


def uniform(x: Tensor, lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """Return the nearest of the evenly spaced levels from `lower` to `upper`."""
    step = (upper - lower).clamp_min(TINY) / (2**bits - 1)
    return uniform_codes(x, lower, upper, bits).mul_(step).add_(lower)
