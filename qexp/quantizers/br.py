"""BR: BinaryRelax (Yin et al. 2018, arXiv 1801.06313), in the form that the DQA paper compares with (its eq. 8).

A mix of grids with fixed weights, (omega, 1, ..., 1) / (omega + K - 1), moves to the lowest grid as omega grows. The
DQA paper multiplies omega by 1.02 after each of 300 epochs. Here the growth is stated by its end, so that a short run
ends as close to the lowest grid as a long one: omega = omega_end ** (epoch / epochs), which over 300 epochs is 1.02 per
epoch for omega_end = 1.02 ** 300. The papers do not say what the DQA tables evaluate; we evaluate the lowest grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from qexp.quantizers.base import ALONE, Method, Site
from qexp.quantizers.grids import Grid, RunningRange, TensorRange
from qexp.quantizers.relaxation import GridQuantizer, grids_for, span_of, weighted_sum
from qexp.types import Fraction, Progress, Range


class BRQuantizer(GridQuantizer):
    """A mix of K grids whose weights follow a schedule; nothing is learned.

    Args:
        grids: lowest bit-width first.
        span: the range they share.
        omega_end: omega after the last epoch; it begins at 1.
        hard_from: the fraction of the epochs after which only the lowest grid is used, None for never.
    """

    has_soft_form = True
    mix: Tensor  # (K,), sums to 1

    def __init__(
        self, grids: Sequence[Grid], span: TensorRange | RunningRange, omega_end: float, hard_from: float | None
    ):
        super().__init__(grids, span)
        self.omega_end, self.hard_from = omega_end, hard_from
        self.register_buffer("mix", torch.full((len(grids),), 1 / len(grids)))

    def combine(self, copies: list[Tensor]) -> Tensor:
        return weighted_sum(copies, self.mix.to(copies[0].dtype))

    def anneal(self, progress: Progress) -> None:
        done = progress.epoch / progress.epochs
        omega = self.omega_end**done
        rest = 1 / (omega + len(self.grids) - 1)
        if self.hard_from is not None and done >= self.hard_from:
            omega, rest = 1.0, 0.0
            self.mix[0] = 1.0
        else:
            self.mix[0] = omega * rest
        self.mix[1:] = rest

    def stats(self) -> dict[str, Tensor]:
        return super().stats() | {"mix_lowest": self.mix[0]}


@dataclass(frozen=True, kw_only=True)
class BR(Method):
    """BinaryRelax over n, 2n and 4n bits, or over an explicit mix.

    Attributes:
        grid: the grid of every bit-width; 1-bit weights use BWN, above 8 bits the tensor itself is used.
        mix: explicit grids, lowest first, such as [minmax@2,fp]; null for n, 2n, 4n bits of `grid`.
        omega_end: omega after the last epoch.
        hard_from: fraction of the epochs after which only the lowest grid trains (0.75: the original two phases).
    """

    grid: Literal["minmax", "sawb", "twn", "bwn"]
    activation_grid: Literal["minmax", "pact"]
    mix: tuple[str, ...] | None
    activation_mix: tuple[str, ...] | None
    sawb: Literal["search", "formula"]
    omega_end: Annotated[float, Range(low=1)]
    hard_from: Fraction | None

    def weight(self, bits: int, site: Site = ALONE) -> BRQuantizer:
        return self._make(bits, of_weights=True)

    def activation(self, bits: int, site: Site = ALONE) -> BRQuantizer:
        return self._make(bits, of_weights=False)

    def _make(self, bits: int, *, of_weights: bool) -> BRQuantizer:
        grids = grids_for(self.grid, self.mix, (bits, 2 * bits, 4 * bits), of_weights=of_weights)
        return BRQuantizer(grids, span_of(of_weights=of_weights), self.omega_end, self.hard_from)
