"""What STE, BR and DQA share: grids over one range, straight-through gradients, the lowest grid when hard."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Quantizer
from qexp.quantizers.functional import as_float, straight_through
from qexp.quantizers.grids import Grid, RunningRange, TensorRange, make_grids, parse_mix


class GridQuantizer(Quantizer):
    """Quantizes to a combination of grids, lowest bit-width first; hard evaluation uses that first grid alone.

    The gradient passes to `x` unchanged: the weights of a combination sum to 1, and no value of a training batch lies
    outside its own range.
    """

    def __init__(self, grids: Sequence[Grid], span: TensorRange | RunningRange):
        super().__init__(grids[0].bits)
        self.grids = nn.ModuleList(grids)
        self.span = span

    def combine(self, copies: list[Tensor]) -> Tensor:
        """Return the relaxed tensor from one projected copy per grid."""
        return copies[0]

    def forward(self, x: Tensor) -> Tensor:
        value = as_float(x.detach())
        lower, upper = self.span(value)
        if self.is_soft and self.has_soft_form:
            quantized = self.combine([grid(value, lower, upper) for grid in self.grids])
        else:
            quantized = self.grids[0](value, lower, upper)
        return straight_through(x, quantized.to(x.dtype))

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value = as_float(x.detach())
        return cast(Grid, self.grids[0]).codes(value, *self.span(value))

    def calibrate(self, x: Tensor) -> None:
        self.span.calibrate(as_float(x))

    def stats(self) -> dict[str, Tensor]:
        if isinstance(self.span, RunningRange):
            return {"lower": self.span.lower, "upper": self.span.upper}
        return {}


def grids_for(grid: str, mix: tuple[str, ...] | None, bits: tuple[int, ...], *, of_weights: bool) -> list[Grid]:
    """Return the grids of one site: `mix` as written if given, else `grid` at each of `bits`.

    Raises:
        ValueError: `mix` does not begin with the bit-width that was asked for.
    """
    if mix is None:
        return make_grids(grid, bits, of_weights=of_weights)
    grids = parse_mix(mix)
    if grids[0].bits != bits[0]:
        raise ValueError(f"mix [{','.join(mix)}] begins with {grids[0].bits} bits where {bits[0]} are asked for")
    if not of_weights and any(entry.startswith("bwn") for entry in mix):
        raise ValueError(
            f"mix [{','.join(mix)}]: bwn is a grid of weights; an input that is never negative has one level"
        )
    return grids


def span_of(*, of_weights: bool) -> TensorRange | RunningRange:
    """Return the range module of a weight or of an input."""
    return TensorRange() if of_weights else RunningRange()


def weighted_sum(copies: list[Tensor], weights: Tensor) -> Tensor:
    """Return sum_k weights[k] * copies[k] (DQA, eq. 3); differentiable in `weights`, shape (K,)."""
    total = copies[0] * weights[0]
    for copy, weight in zip(copies[1:], weights[1:], strict=True):
        total = torch.addcmul(total, copy, weight)
    return total
