"""STE: quantize in the forward pass, pass the gradient straight through (Bengio et al. 2013, arXiv 1308.3432).

With the min-max grid this is the "plain" row of the DQA paper's tables; at 1 bit weights it is BWN.
"""

from dataclasses import dataclass
from typing import Literal

from qexp.quantizers.base import ALONE, Method, Site
from qexp.quantizers.relaxation import GridQuantizer, grids_for, span_of


@dataclass(frozen=True, kw_only=True)
class STE(Method):
    """One grid, straight-through gradient, nothing learned.

    Attributes:
        grid: the grid at every bit-width; 1-bit weights always use BWN.
    """

    grid: Literal["minmax", "sawb", "twn", "bwn"]
    activation_grid: Literal["minmax", "pact"]
    sawb: Literal["search", "formula"]

    def weight(self, bits: int, site: Site = ALONE) -> GridQuantizer:
        return GridQuantizer(grids_for(self.grid, None, (bits,), of_weights=True), span_of(of_weights=True))

    def activation(self, bits: int, site: Site = ALONE) -> GridQuantizer:
        return GridQuantizer(grids_for(self.grid, None, (bits,), of_weights=False), span_of(of_weights=False))
