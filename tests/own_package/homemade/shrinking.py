"""Shrinking: a method that learns the width of each layer, in the simplest way: large layers are pulled down faster."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qexp.quantizers.base import LayerInfo, Method, Quantizer, straight_through
from qexp.utils.types import NonNegative


class ShrinkingQuantizer(Quantizer):
    """Even levels from -reach to reach; `width`, rounded, is how many bits they have."""

    roles = {"width": "width", "reach": "range"}

    def __init__(self, bits: int, pull: float):
        super().__init__(bits)
        self.pull = pull
        self.width = nn.Parameter(torch.tensor(float(bits)))
        self.reach = nn.Parameter(torch.tensor(1.0))

    @property
    def bits(self) -> int:
        return max(1, round(self.width.item()))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        self.reach.copy_(3 * x.float().std().clamp_min(1e-6))

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps, reach = 2**self.bits - 1, self.reach.detach()
        codes = ((x.detach() / reach + 1) / 2 * steps).round().clamp(0, steps)
        return codes.to(torch.uint8), torch.linspace(-1, 1, steps + 1, device=x.device) * reach

    def forward(self, x: Tensor) -> Tensor:
        codes, levels = self.codes(x)
        return straight_through(torch.maximum(torch.minimum(x, self.reach), -self.reach), levels[codes.long()])

    def penalty(self) -> Tensor:
        return self.pull * self.width

    def stats(self) -> dict[str, Tensor]:
        return {"bits": torch.tensor(float(self.bits))}


@dataclass(frozen=True, kw_only=True)
class Shrinking(Method):
    pull: NonNegative

    weight_bits = range(2, 9)

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> ShrinkingQuantizer:
        return ShrinkingQuantizer(bits, self.pull * layer.layer_weights / layer.total_weights)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> ShrinkingQuantizer:
        return ShrinkingQuantizer(bits, 0.0)
