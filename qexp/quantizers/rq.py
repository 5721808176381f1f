"""RQ, Relaxed Quantization (Louizos, Reisser, Blankevoort, Gavves, Welling, ICLR 2019, arXiv 1810.01875).

A value gets logistic noise of a learned scale; the probability of a grid point is the mass of its bin (eq. 2-4). While
training, a point is sampled by the Gumbel-softmax trick (eq. 5), softly, or with `straight_through` hard in the forward
pass (RQ ST). Evaluated, values are rounded to the grid, without noise (Algorithm 2).

Readings taken where the paper's text is silent (its appendices could not be had): alpha and sigma are learned by their
logarithms, sigma / alpha stays in 0.02 to 5; no offset is learned, so that zero is a point; the local grid (eq. 6) has
`neighbours` points on either side of the nearest one, where the paper takes those within 3 sigma of it: one on either
side at the first sigma = alpha / 3. A 1-bit grid of weights or signed inputs is -alpha/2 and alpha/2, our own
extension: the printed one is -alpha and 0.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qexp.quantizers.base import LayerInfo, Method
from qexp.quantizers.numerics import Scalar, scalar
from qexp.quantizers.relaxed import RelaxedQuantizer
from qexp.quantizers.sampling import Sampling, sampled
from qexp.utils.types import Positive, Progress, Range

MOST_POINTS = 16  # of a whole grid: 4 bits


class RQQuantizer(RelaxedQuantizer):
    """A sample of the points of a learned grid under learned noise while training, rounding when evaluated.

    Weights and signed inputs have k = -2^(b-1) .. 2^(b-1)-1, other inputs 0 .. 2^b-1.

    Args:
        bits: b.
        of_inputs: of a layer, in place of its weight.
        neighbours: points on either side of the nearest one that may be sampled; None for the whole grid.
        temperatures: T before the first step and after the last one.
        straight_through: sample hard in the forward pass (RQ ST).
    """

    is_random = True
    temperature: Tensor

    def __init__(
        self,
        bits: int,
        *,
        of_inputs: bool,
        neighbours: int | None,
        temperatures: tuple[float, float],
        straight_through: bool,
    ):
        super().__init__(bits, of_inputs=of_inputs)
        whole = neighbours is None or 2 * neighbours + 1 >= 2**bits
        self.first = None if whole else -neighbours  # type: ignore[operator]
        self.points = 2**bits if self.first is None else 1 - 2 * self.first
        self.temperatures, self.straight_through = temperatures, straight_through
        self.register_buffer("temperature", torch.tensor(temperatures[0]))

    @property
    def halves(self) -> bool:
        return self.widest == 1

    @property
    def k_low(self) -> Scalar:
        lowest = -0.5 if self.halves else -(2 ** (self.widest - 1))
        return lowest * scalar(self.signed) if self.of_inputs else lowest

    @property
    def k_high(self) -> Scalar:
        return self.k_low + (2**self.widest - 1)

    def anneal(self, progress: Progress) -> None:
        start, end = self.temperatures
        self.temperature.fill_(start * (end / start) ** (progress.step / progress.steps))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.hard(x)
        is_constant = self.temperatures[0] == self.temperatures[1]
        temperature = self.temperatures[0] if is_constant else scalar(self.temperature)
        ends = self.k_low, self.k_high, self.halves
        how = Sampling(*ends, self.first, self.points, temperature, self.straight_through)
        return sampled(x, self.alpha, self.sigma, how, self.noise.key)

    def stats(self) -> dict[str, Tensor]:
        return super().stats() | {"temperature": self.temperature}


@dataclass(frozen=True, kw_only=True)
class RQ(Method):
    """Relaxed Quantization, softly or (RQ ST) with samples that are hard in the forward pass.

    Attributes:
        straight_through: RQ ST.
        neighbours: of the local grid; null for the whole grid, of 4 bits at most.
        temperature_start: T of the softmax.
        temperature_end: T after the last step, reached geometrically.
    """

    straight_through: bool
    neighbours: Annotated[int, Range(1, 127)] | None
    temperature_start: Positive
    temperature_end: Positive

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> RQQuantizer:
        return self._quantizer(bits, of_inputs=False)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> RQQuantizer:
        return self._quantizer(bits, of_inputs=True)

    def _quantizer(self, bits: int, *, of_inputs: bool) -> RQQuantizer:
        if self.neighbours is None and 2**bits > MOST_POINTS:
            raise ValueError(f"neighbours=null: the whole grid of {bits} bits has {2**bits} points; at most 4 bits")
        return RQQuantizer(
            bits,
            of_inputs=of_inputs,
            neighbours=self.neighbours,
            temperatures=(self.temperature_start, self.temperature_end),
            straight_through=self.straight_through,
        )
