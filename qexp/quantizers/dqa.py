"""DQA: DNN Quantization with Attention (Hacene, Mauch, Uhlich, Cardinaux 2021, arXiv 2103.13322).

Each tensor is a mix of K grids weighted by a learned attention a = softmax(alpha / std(alpha) / T), whose temperature T
falls from 100 to 0.03 over all training steps; a penalty on high bit-widths pulls the attention to the lowest grid
(eq. 2-7 and Algorithm 1). Readings taken where the paper is silent:

* std is the unbiased one and stays in the graph, as in the authors' released layer. With K = 2 the gradient of alpha is
  then zero everywhere, so K >= 3 is required.
* The penalty's S, "the number of weights in the whole network" as printed, makes it some 10,000 times weaker than the
  task's gradient, and layers end above the lowest bit-width. The default S is the number of layers. With each layer
  weighed by its share of the weights (`layer_share`) small layers feel nothing: the first one ended at 4 bits
  (docs/results/dqa-penalty.md).
* Inputs of layers have an attention and a penalty of their own.
* Hard evaluation uses the lowest grid, whatever the attention says; `converged` tells whether they agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import TINY, LayerInfo, Quantizer
from qexp.quantizers.grids import Member
from qexp.quantizers.mixture import GridQuantizer, MixMethod
from qexp.utils.types import NonNegative, Positive, Progress

COSTS = (1.0, 4.0, 16.0)  # g in eq. 6


def initial_attention(bits: Sequence[int]) -> Tensor:
    """Return alpha(0) of eq. 7, shape (K,): alpha_k = sum of the other bit-widths / sum of all."""
    widths = torch.tensor(bits, dtype=torch.get_default_dtype())
    return 1 - widths / widths.sum()


def attention(alpha: Tensor, temperature: Tensor) -> Tensor:
    """Return softmax(alpha / std(alpha) / T) over the last dimension (eq. 4 and 5)."""
    return torch.softmax(alpha / alpha.std(-1, keepdim=True).clamp_min(TINY) / temperature, -1)


class DQAQuantizer(GridQuantizer):
    """A mix of K >= 3 grids with learned attention.

    Args:
        mix: lowest bit-width first.
        penalty: lambda / S of eq. 6, the factor of g . a.
        temperatures: T(0) and T(B).
    """

    roles = {"alpha": "attention"}
    has_soft_form = True
    temperature: Tensor
    costs: Tensor

    def __init__(self, mix: Sequence[Member], penalty: float, temperatures: tuple[float, float]):
        super().__init__(mix)
        if len(mix) != len(COSTS):
            raise ValueError(f"needs a mix of 3 grids, not {len(mix)}: with 2, normalized attention has no gradient")
        self.alpha = nn.Parameter(initial_attention([member.grid.bits for member in mix]))
        self.temperatures = temperatures
        self.register_buffer("temperature", torch.tensor(temperatures[0]))
        self.register_buffer("costs", penalty * torch.tensor(COSTS), persistent=False)

    def attention(self) -> Tensor:
        """Return a = softmax(alpha / std(alpha) / T), shape (K,)."""
        return attention(self.alpha, self.temperature)

    def mixing_weights(self) -> Tensor:
        return self.attention()

    def anneal(self, progress: Progress) -> None:
        start, end = self.temperatures
        self.temperature.fill_(start * (end / start) ** (progress.step / progress.steps))

    def penalty(self) -> Tensor:
        return self.penalties([self])

    @classmethod
    def penalties(cls, quantizers: Sequence[Quantizer]) -> Tensor:
        # All at once: an operation on three values costs as much as one on a thousand.
        members = cast(Sequence[DQAQuantizer], quantizers)
        temperatures = torch.stack([member.temperature for member in members])[:, None]
        weights = attention(torch.stack([member.alpha for member in members]), temperatures)
        return (weights * torch.stack([member.costs for member in members])).sum()

    def converged(self) -> bool:
        return int(self.alpha.argmax()) == 0

    def stats(self) -> dict[str, Tensor]:
        attention = {f"attention_{k}": a for k, a in enumerate(self.attention().detach())}
        return super().stats() | attention | {"temperature": self.temperature}


@dataclass(frozen=True, kw_only=True)
class DQA(MixMethod):
    """Attention over n, 2n and 4n bits, or over explicit mixes of three grids.

    Attributes:
        penalty: lambda of eq. 6.
        penalty_scale: S of eq. 6: the number of layers, that of all weights, or one for each layer's share of them.
        temperature_start: T(0).
        temperature_end: T(B).
    """

    penalty: NonNegative
    penalty_scale: Literal["layer_share", "layers", "weights"]
    temperature_start: Positive
    temperature_end: Positive

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> DQAQuantizer:
        return self._attend(self.weight_members(bits, layer), layer)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> DQAQuantizer:
        return self._attend(self.activation_members(bits), layer)

    def _attend(self, mix: list[Member], layer: LayerInfo) -> DQAQuantizer:
        factor = {
            "layer_share": layer.layer_weights / layer.total_weights,
            "layers": 1 / layer.layers,
            "weights": 1 / layer.total_weights,
        }[self.penalty_scale]
        return DQAQuantizer(mix, self.penalty * factor, (self.temperature_start, self.temperature_end))
