"""PACT: a learned clip of a layer's input (Choi et al. 2018, arXiv 1805.06085).

y = clip(x, 0, alpha), then 2**bits levels from 0 to alpha. The gradient is the original one: to x it is 1 on [0, alpha]
and 0 outside; to alpha it is 1 where x >= alpha and 0 elsewhere (what rounding leaves inside is dropped). alpha has a
role of its own, `clip`, because its weight decay is part of the method. In a mix of grids all share one alpha, since
the clip does not depend on the bit-width; full precision as a member of a mix is not clipped.

The papers start alpha at a constant (10, 8 or 6, by source); here it starts at the largest input of the calibration
batch. Our extension: where calibration sees negative inputs the interval is [-alpha, alpha].
"""

import torch
from torch import Tensor, nn

from qexp.quantizers.base import TINY
from qexp.quantizers.ranges import RangeEstimator


class PactRange(RangeEstimator):
    """[0, alpha] with a learned alpha; [-alpha, alpha] where calibration saw negative inputs."""

    roles = {"alpha": "clip"}
    clips = True
    signed: Tensor  # 0 or 1

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("signed", torch.tensor(0.0))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        upper = self.alpha + (self.alpha.clamp_min(TINY) - self.alpha).detach()  # below 0 it still has a gradient
        return -self.signed * upper, upper

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Start alpha at the largest |x|."""
        self.alpha.copy_(x.abs().max().clamp_min(TINY))
        self.signed.fill_(float(x.min() < 0))

    def stats(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha.detach()}
