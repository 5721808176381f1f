"""BR: BinaryRelax (Yin et al. 2018, arXiv 1801.06313), in the form that the DQA paper compares with (its eq. 8).

A mix of grids with fixed weights, (omega, 1, ..., 1) / (omega + K - 1), moves to the lowest grid as omega grows. The
DQA paper multiplies omega by 1.02 after each of 300 epochs. Here the growth is stated by its end, so that a short run
ends as close to the lowest grid as a long one: omega = omega_end ** (epoch / epochs), which over 300 epochs is 1.02 per
epoch for omega_end = 1.02 ** 300. The papers do not say what the DQA tables evaluate; we evaluate the lowest grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qexp.quantizers.base import LayerInfo
from qexp.quantizers.grids import Member
from qexp.quantizers.mixture import GridQuantizer, MixMethod
from qexp.utils.types import Fraction, Progress, Range


class BRQuantizer(GridQuantizer):
    """A mix of K grids whose weights follow a schedule; nothing is learned.

    Args:
        mix: lowest bit-width first.
        omega_end: omega after the last epoch; it starts at 1.
        hard_from: the fraction of the epochs after which only the lowest grid is used, None for never.
    """

    has_soft_form = True
    mix: Tensor  # (K,), sums to 1

    def __init__(self, mix: Sequence[Member], omega_end: float, hard_from: float | None):
        super().__init__(mix)
        self.omega_end, self.hard_from = omega_end, hard_from
        self.register_buffer("mix", torch.full((len(mix),), 1 / len(mix)))
        self._is_hard = False  # in the second phase of training

    def mixing_weights(self) -> Tensor | None:
        return None if self._is_hard else self.mix

    def anneal(self, progress: Progress) -> None:
        done = progress.epoch / progress.epochs
        omega = self.omega_end**done
        rest = 1 / (omega + len(self.grids) - 1)
        self._is_hard = self.hard_from is not None and done >= self.hard_from
        self.mix.fill_(0.0 if self._is_hard else rest)
        self.mix[0].fill_(1.0 if self._is_hard else omega * rest)

    def stats(self) -> dict[str, Tensor]:
        return super().stats() | {"mix_lowest": self.mix[0]}


@dataclass(frozen=True, kw_only=True)
class BR(MixMethod):
    """BinaryRelax over n, 2n and 4n bits, or over explicit mixes.

    Attributes:
        omega_end: omega after the last epoch.
        hard_from: fraction of the epochs after which only the lowest grid trains (0.75: the original two phases).
    """

    omega_end: Annotated[float, Range(low=1)]
    hard_from: Fraction | None

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> BRQuantizer:
        return BRQuantizer(self.weight_members(bits, layer), self.omega_end, self.hard_from)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> BRQuantizer:
        return BRQuantizer(self.activation_members(bits), self.omega_end, self.hard_from)
