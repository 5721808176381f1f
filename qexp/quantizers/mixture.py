"""What STE, BR and DQA share: a mix of grids, straight-through gradients, the lowest grid when hard."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import Bins, IntegerForm, LayerInfo, Method, Quantizer
from qexp.quantizers.channels import Granularity
from qexp.quantizers.functional import mix_grids
from qexp.quantizers.grids import ActivationGrid, Member, WeightGrid, make_mix, usual_mix
from qexp.quantizers.numerics import as_float
from qexp.quantizers.ranges import RangeEstimator
from qexp.quantizers.sawb import Rule


class GridQuantizer(Quantizer):
    """Quantizes to a weighted sum of grids, lowest bit-width first; hard evaluation uses that first grid alone.

    The gradient to the input is the weighted sum of the members' own: 1, except where a range clips (PACT).

    Args:
        mix: one member per grid, of growing bit-width.
    """

    def __init__(self, mix: Sequence[Member]):
        super().__init__(mix[0].grid.bits)
        self.grids = [member.grid for member in mix]
        estimators = list(dict.fromkeys(member.range_estimator for member in mix))
        self.spans = nn.ModuleList(estimators)  # the name they have in checkpoints; see `range_estimators`
        self._index = [estimators.index(member.range_estimator) for member in mix]  # grid -> its range estimator

    @property
    def refresh_interval(self) -> int | None:
        """Steps between calibrations of a weight's ranges, None for only one."""
        intervals = [estimator.refresh_interval for estimator in self.range_estimators]
        return min((interval for interval in intervals if interval), default=None)

    def mixing_weights(self) -> Tensor | None:
        """Return the weights of the grids in the sum, shape (K,), adding up to 1; None for the first grid alone."""
        return None

    @property
    def range_estimators(self) -> list[RangeEstimator]:
        """The range estimators of the grids, in the order of their first use."""
        return [cast(RangeEstimator, estimator) for estimator in self.spans]

    @property
    def members(self) -> list[Member]:
        """The grids with their range estimators, lowest bit-width first."""
        estimators = self.range_estimators
        return [Member(grid, estimators[at]) for grid, at in zip(self.grids, self._index, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        return self._quantize(x, update=self.training)

    def requantize(self, *arguments: Tensor) -> Tensor:
        with torch.no_grad():
            return self._quantize(*arguments, update=False)

    def _quantize(self, x: Tensor, *, update: bool) -> Tensor:
        weights = self.mixing_weights() if self.is_soft else None
        index = self._index if weights is not None else self._index[:1]
        estimators = self.range_estimators[: max(index) + 1]
        bounds = [estimator(x.detach()) for estimator in estimators]
        if update:
            for estimator, own in zip(estimators, bounds, strict=True):
                estimator.update(own)
        return mix_grids(
            x,
            [grid.scaled(bounds[i]) for grid, i in zip(self.grids, index, strict=False)],
            weights,
            clip=next((own for estimator, own in zip(estimators, bounds, strict=True) if estimator.clips), None),
            clipped=[estimators[i].clips for i in index],
        )

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.grids[0].codes(as_float(x.detach()), self.range_estimators[0](x.detach()))

    @torch.no_grad()
    def integer_form(self, x: Tensor) -> IntegerForm:
        return self.grids[0].integer_form(as_float(x), self.range_estimators[0](x))

    @torch.no_grad()
    def bins(self, x: Tensor) -> Bins:
        return self.grids[0].bins(self.range_estimators[0](x))

    @property
    def channel_numbers(self) -> int:
        shape = self.range_estimators[0].shape
        return self.grids[0].numbers * prod(shape) if shape else 0

    def calibrate(self, x: Tensor) -> None:
        for estimator in self.range_estimators:
            estimator.calibrate(as_float(x.detach()))

    def stats(self) -> dict[str, Tensor]:
        return {name: value for estimator in self.range_estimators for name, value in estimator.stats().items()}


@dataclass(frozen=True, kw_only=True)
class GridMethod(Method):
    """A method over grids.

    Attributes:
        grid: of the weights.
        activation_grid: of the inputs of layers.
        sawb: how the grid sawb finds its clip.
        granularity: whether each output channel of a weight has a range of its own.
    """

    grid: WeightGrid
    activation_grid: ActivationGrid
    sawb: Rule
    granularity: Granularity

    def weight_members(self, bits: int, layer: LayerInfo) -> list[Member]:
        """Return the members for the weight of a layer; raise ValueError for what a grid cannot do."""
        return self._members(bits, layer)

    def activation_members(self, bits: int) -> list[Member]:
        """Return the members for the input of a layer; raise ValueError for what a grid cannot do."""
        return self._members(bits, None)

    def _members(self, bits: int, layer: LayerInfo | None) -> list[Member]:
        """Return those of a layer's weight, without a layer of an input."""
        grid = self.activation_grid if layer is None else self.grid
        return self._make(usual_mix(grid, self._widths(bits), of_weights=layer is not None), layer)

    def _widths(self, bits: int) -> tuple[int, ...]:
        """Return the bit-widths of the members."""
        return (bits,)

    def _make(self, entries: Sequence[str], layer: LayerInfo | None) -> list[Member]:
        if layer is None:
            return make_mix(entries, of_weights=False, sawb=self.sawb)
        is_by_channel = self.granularity == "channel"
        if is_by_channel and any(entry.startswith("sawb") for entry in entries):
            raise ValueError(
                "granularity=channel: the grid sawb has one clip for a whole tensor; minmax, twn and bwn have ranges "
                "by channel"
            )
        return make_mix(entries, of_weights=True, sawb=self.sawb, shape=layer.channel_shape if is_by_channel else ())


@dataclass(frozen=True, kw_only=True)
class MixMethod(GridMethod):
    """A method over n, 2n and 4n bits of a grid, or over explicit mixes.

    Attributes:
        mix: explicit grids, lowest first, such as ("minmax@2", "fp"); None for n, 2n and 4n bits of the grids.
        activation_mix: the same for the inputs of layers where they differ; None for `mix`.
    """

    mix: tuple[str, ...] | None
    activation_mix: tuple[str, ...] | None

    def _widths(self, bits: int) -> tuple[int, ...]:
        return bits, 2 * bits, 4 * bits

    def _members(self, bits: int, layer: LayerInfo | None) -> list[Member]:
        of_weights = layer is not None
        entries = self.mix if of_weights else self.activation_mix or self.mix
        if entries is None:
            return super()._members(bits, layer)
        try:
            members = self._make(entries, layer)
        except ValueError as error:
            if of_weights or self.activation_mix:
                raise
            raise ValueError(f"{error}; activation_mix= gives layer inputs a mix of their own") from error
        if members[0].grid.bits != bits:
            name = "mix" if of_weights or not self.activation_mix else "activation_mix"
            listed, first = ",".join(entries), members[0].grid.bits
            raise ValueError(f"{name} [{listed}] begins with {first} bits where {bits} are asked for")
        return members
