"""What STE, BR and DQA share: a mix of grids, straight-through gradients, the lowest grid when hard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Method, Quantizer
from qexp.quantizers.blocks import as_float
from qexp.quantizers.functional import project
from qexp.quantizers.grids import ActivationGrid, Member, WeightGrid, make_mix, usual_mix
from qexp.quantizers.ranges import Span
from qexp.quantizers.sawb import Rule


class GridQuantizer(Quantizer):
    """Quantizes to a weighted sum of grids, lowest bit-width first; hard evaluation uses that first grid alone.

    The gradient to the input is the weighted sum of the members' own: 1, but for spans that clip (PACT).

    Args:
        mix: one member per grid, of growing bit-width.
    """

    def __init__(self, mix: Sequence[Member]):
        super().__init__(mix[0].grid.bits)
        self.grids = [member.grid for member in mix]
        spans = list(dict.fromkeys(member.span for member in mix))
        self.spans = nn.ModuleList(spans)
        self._place = [spans.index(member.span) for member in mix]  # grid -> its span

    @property
    def refresh_interval(self) -> int | None:
        """Steps between calibrations of a weight's spans, None for only one."""
        return min((span.refresh_interval for span in self._spans() if span.refresh_interval), default=None)

    def shares(self) -> Tensor | None:
        """Return the weights of the grids in the sum, shape (K,), adding up to 1; None for the first grid alone."""
        return None

    def _spans(self) -> list[Span]:
        return [cast(Span, span) for span in self.spans]

    def forward(self, x: Tensor) -> Tensor:
        return self._quantize(x, observe=self.training)

    def recall(self, *arguments: Tensor) -> Tensor:
        with torch.no_grad():
            return self._quantize(*arguments, observe=False)

    def _quantize(self, x: Tensor, *, observe: bool) -> Tensor:
        shares = self.shares() if self.is_soft else None
        places = self._place if shares is not None else self._place[:1]
        spans = self._spans()[: max(places) + 1]  # spans are numbered in the order of their first use
        ends = [span(x.detach()) for span in spans]
        if observe:
            for span, own in zip(spans, ends, strict=True):
                span.observe(own)
        grids = zip(self.grids, places, strict=False)
        return project(
            x,
            [grid.placed(ends[place]) for grid, place in grids],
            shares,
            clip=next((own for span, own in zip(spans, ends, strict=True) if span.clips), None),
            clipped=[spans[place].clips for place in places],
        )

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.grids[0].codes(as_float(x.detach()), self._spans()[0](x.detach()))

    def calibrate(self, x: Tensor) -> None:
        for span in self._spans():
            span.calibrate(as_float(x.detach()))

    def stats(self) -> dict[str, Tensor]:
        return {name: value for span in self._spans() for name, value in span.stats().items()}


@dataclass(frozen=True, kw_only=True)
class GridMethod(Method):
    """A method over grids.

    Attributes:
        grid: of the weights.
        activation_grid: of the inputs of layers.
        sawb: how the grid sawb finds its clip.
    """

    grid: WeightGrid
    activation_grid: ActivationGrid
    sawb: Rule

    def mix_of(self, bits: Sequence[int], *, of_weights: bool) -> list[Member]:
        """Return the members of one site at the bit-widths `bits`; raise ValueError for what a grid cannot do."""
        grid = self.grid if of_weights else self.activation_grid
        return make_mix(usual_mix(grid, bits, of_weights=of_weights), of_weights=of_weights, sawb=self.sawb)


@dataclass(frozen=True, kw_only=True)
class MixMethod(GridMethod):
    """A method over n, 2n and 4n bits of a grid, or over explicit mixes.

    Attributes:
        mix: explicit grids, lowest first, such as ("minmax@2", "fp"); None for n, 2n and 4n bits of the grids.
        activation_mix: the same for the inputs of layers where they differ; None for `mix`.
    """

    mix: tuple[str, ...] | None
    activation_mix: tuple[str, ...] | None

    def mix_of(self, bits: Sequence[int], *, of_weights: bool) -> list[Member]:
        entries = self.mix if of_weights else self.activation_mix or self.mix
        if entries is None:
            return super().mix_of((bits[0], 2 * bits[0], 4 * bits[0]), of_weights=of_weights)
        try:
            members = make_mix(entries, of_weights=of_weights, sawb=self.sawb)
        except ValueError as error:
            if of_weights or self.activation_mix:
                raise
            raise ValueError(f"{error}; activation_mix= gives layer inputs a mix of their own") from error
        if members[0].grid.bits != bits[0]:
            name = "mix" if of_weights or not self.activation_mix else "activation_mix"
            listed, first = ",".join(entries), members[0].grid.bits
            raise ValueError(f"{name} [{listed}] begins with {first} bits where {bits[0]} are asked for")
        return members
