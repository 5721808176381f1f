"""Two formulas of the DQA paper in plain tensor operations."""

from torch import Tensor


def uniform(x: Tensor, lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """The nearest of 2**bits evenly spaced levels from `lower` to `upper` (DQA, eq. 13 with the offset it lacks)."""
    steps = 2**bits - 1
    step = (upper - lower) / steps
    return ((x - lower) / step).round().clamp(0, steps) * step + lower


def weighted_sum(copies: list[Tensor], weights: Tensor) -> Tensor:
    """sum_k weights[k] * copies[k] (DQA, eq. 3)."""
    return sum(copy * weight for copy, weight in zip(copies, weights, strict=True))
