"""A method that is random, edits its weight, and asks for sizes: what the contract must serve, in a few lines."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qexp.quantizers.base import LayerInfo, Method, Quantizer, straight_through
from qexp.utils.types import Progress


class StochasticRounding(Quantizer):
    """Rounds up or down by chance while training, to the nearest level in evaluation; the step is a constant."""

    is_random = True
    edits: Tensor

    def __init__(self, bits: int, step: float = 0.25):
        super().__init__(bits)
        self.step = step
        self.register_buffer("edits", torch.zeros((), dtype=torch.int64))

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        least = -(2 ** (self.bits - 1))
        codes = (x.detach() / self.step).round().clamp(least, -least - 1) - least
        return codes.to(torch.uint8), torch.arange(least, -least, dtype=x.dtype) * self.step

    def forward(self, x: Tensor) -> Tensor:
        least = -(2 ** (self.bits - 1))
        if not self.training:
            codes, levels = self.codes(x)
            return straight_through(x, levels[codes.long()])
        chance = self.noise.uniform(x.numel(), x).view(x.shape)
        return straight_through(x, (x.detach() / self.step + chance).floor().clamp(least, -least - 1) * self.step)

    def edit_weight(self, weight: Tensor, progress: Progress) -> None:
        if progress.step == 3:
            weight[0] = 0.0
            self.edits += 1


@dataclass(frozen=True)
class Chance(Method):
    """Of every layer; `made` has what each quantizer was told of its own."""

    needs_sizes: ClassVar[bool] = True
    made: list[LayerInfo]

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        self.made.append(layer)
        return StochasticRounding(bits)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        return StochasticRounding(bits)
