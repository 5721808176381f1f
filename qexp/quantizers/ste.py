"""STE: quantize in the forward pass, pass the gradient straight through (Bengio et al. 2013, arXiv 1308.3432).

On the min-max, SAWB, BWN and TWN grids these are the "plain" rows of the DQA paper's tables.
"""

from dataclasses import dataclass

from qexp.quantizers.base import LayerInfo
from qexp.quantizers.mixture import GridMethod, GridQuantizer


@dataclass(frozen=True, kw_only=True)
class STE(GridMethod):
    """One grid, straight-through gradient, nothing learned but what the grid learns (PACT's clip)."""

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> GridQuantizer:
        return GridQuantizer(self.weight_members(bits, layer))

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> GridQuantizer:
        return GridQuantizer(self.activation_members(bits))
