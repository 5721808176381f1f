"""DQA: DNN Quantization with Attention (Hacene, Mauch, Uhlich, Cardinaux 2021, arXiv 2103.13322).

Each tensor is a mix of K grids weighted by a learned attention a = softmax(alpha / std(alpha) / T), whose temperature T
falls from 100 to 0.03 over all training steps; a penalty on high bit-widths pulls the attention to the lowest grid
(eq. 2-7 and Algorithm 1). Readings taken where the paper is silent:

* std is the unbiased one and stays in the graph, as in the authors' released layer. With K = 2 the gradient of alpha is
  then zero everywhere, so K >= 3 is required.
* The penalty's S, "the number of weights in the whole network" as printed, makes it some 10,000 times weaker than the
  task's gradient; `layer_share` (the layer's share of the weights) is the default and keeps it independent of size.
* Inputs of layers have an attention and a penalty of their own.
* Hard evaluation uses the lowest grid, whatever the attention says; `settled` tells whether they agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from qexp.quantizers.base import ALONE, Method, Site
from qexp.quantizers.functional import TINY
from qexp.quantizers.grids import Grid, RunningRange, TensorRange
from qexp.quantizers.relaxation import GridQuantizer, grids_for, span_of, weighted_sum
from qexp.types import NonNegative, Positive, Progress

COSTS = (1.0, 4.0, 16.0)  # g in eq. 6


def initial_attention(bits: Sequence[int]) -> Tensor:
    """Return alpha(0) of eq. 7, shape (K,): alpha_k = sum of the other bit-widths / sum of all."""
    widths = torch.tensor(bits, dtype=torch.get_default_dtype())
    return 1 - widths / widths.sum()


class DQAQuantizer(GridQuantizer):
    """A mix of K >= 3 grids with learned attention.

    Args:
        grids: lowest bit-width first.
        span: the range they share.
        penalty: lambda / S of eq. 6, the factor of g . a.
        temperatures: T(0) and T(B).
    """

    roles = {"alpha": "attention"}
    has_soft_form = True
    temperature: Tensor
    costs: Tensor

    def __init__(
        self,
        grids: Sequence[Grid],
        span: TensorRange | RunningRange,
        penalty: float,
        temperatures: tuple[float, float],
    ):
        super().__init__(grids, span)
        if len(grids) != len(COSTS):
            raise ValueError(f"needs a mix of 3 grids, not {len(grids)}: with 2, normalized attention has no gradient")
        self.alpha = nn.Parameter(initial_attention([grid.bits for grid in grids]))
        self.penalty_factor, self.temperatures = penalty, temperatures
        self.register_buffer("temperature", torch.tensor(temperatures[0]))
        self.register_buffer("costs", torch.tensor(COSTS), persistent=False)

    def attention(self) -> Tensor:
        """Return a = softmax(alpha / std(alpha) / T), shape (K,)."""
        return torch.softmax(self.alpha / self.alpha.std().clamp_min(TINY) / self.temperature, dim=0)

    def combine(self, copies: list[Tensor]) -> Tensor:
        return weighted_sum(copies, self.attention().to(copies[0].dtype))

    def anneal(self, progress: Progress) -> None:
        start, end = self.temperatures
        self.temperature.fill_(start * (end / start) ** (progress.step / progress.steps))

    def penalty(self) -> Tensor:
        return self.penalty_factor * (self.costs * self.attention()).sum()

    def settled(self) -> bool:
        return int(self.alpha.argmax()) == 0

    def stats(self) -> dict[str, Tensor]:
        attention = {f"attention_{k}": a for k, a in enumerate(self.attention().detach())}
        return super().stats() | attention | {"temperature": self.temperature}


@dataclass(frozen=True, kw_only=True)
class DQA(Method):
    """Attention over n, 2n and 4n bits, or over an explicit mix of three grids.

    Attributes:
        grid: the grid of every bit-width; 1-bit weights use BWN, above 8 bits the tensor itself is used.
        mix: explicit grids, lowest first, such as [minmax@2,minmax@4,fp]; null for n, 2n, 4n bits of `grid`.
        penalty: lambda of eq. 6.
        penalty_scale: S of eq. 6: each layer's share of the weights, the number of layers, or that of all weights.
        temperature_start: T(0).
        temperature_end: T(B).
    """

    grid: Literal["minmax", "sawb", "twn", "bwn"]
    activation_grid: Literal["minmax", "pact"]
    mix: tuple[str, ...] | None
    activation_mix: tuple[str, ...] | None
    sawb: Literal["search", "formula"]
    penalty: NonNegative
    penalty_scale: Literal["layer_share", "layers", "weights"]
    temperature_start: Positive
    temperature_end: Positive

    def weight(self, bits: int, site: Site = ALONE) -> DQAQuantizer:
        return self._make(bits, site, of_weights=True)

    def activation(self, bits: int, site: Site = ALONE) -> DQAQuantizer:
        return self._make(bits, site, of_weights=False)

    def _make(self, bits: int, site: Site, *, of_weights: bool) -> DQAQuantizer:
        factor = {
            "layer_share": site.layer_weights / site.total_weights,
            "layers": 1 / site.layers,
            "weights": 1 / site.total_weights,
        }[self.penalty_scale]
        return DQAQuantizer(
            grids_for(self.grid, self.mix, (bits, 2 * bits, 4 * bits), of_weights=of_weights),
            span_of(of_weights=of_weights),
            self.penalty * factor,
            (self.temperature_start, self.temperature_end),
        )
