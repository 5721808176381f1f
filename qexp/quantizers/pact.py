"""PACT: a learned clip of a layer's input (Choi et al. 2018, arXiv 1805.06085).

y = clip(x, 0, alpha), then 2**bits levels from 0 to alpha. The gradient is the original one: to x it is 1 on [0, alpha]
and 0 outside; to alpha it is 1 where x >= alpha and 0 elsewhere (what rounding leaves inside is dropped). alpha has a
role of its own, `clip`, because its weight decay is part of the method. In a mix of grids all share one alpha, since
the clip does not depend on the bit-width; full precision as a member of a mix is not clipped.

The papers start alpha at a constant (10, 8 or 6, by source); here it starts at the largest input of the calibration
batch. Our extension: where calibration sees negative inputs the interval is [-alpha, alpha].
"""

from typing import Any

import torch
from torch import Tensor, nn

from qexp.quantizers.functional import TINY, as_float
from qexp.quantizers.spans import Span


class _ClipGradient(torch.autograd.Function):
    """The identity, with the gradient of clipping to [-signed * alpha, alpha]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, signed: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha, signed)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, alpha, signed = ctx.saved_tensors
        value, lower = as_float(x), -signed * alpha
        inside = (value >= lower) & (value <= alpha)
        # Sums over a whole feature map need double precision; the gradient of the lower end counts where it moves.
        above = grad.mul(value >= alpha).sum(dtype=torch.float64)
        below = grad.mul(value <= lower).sum(dtype=torch.float64) * signed
        return grad * inside, (above - below).to(alpha.dtype), None


class LearnedClip(Span):
    """[0, alpha] with a learned alpha; [-alpha, alpha] where calibration saw negative inputs."""

    roles = {"alpha": "clip"}
    signed: Tensor  # 0 or 1

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("signed", torch.tensor(0.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alpha.detach().clamp_min(TINY)
        return -self.signed * alpha, alpha

    def carry(self, x: Tensor) -> Tensor:
        return _ClipGradient.apply(x, self.alpha, self.signed)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Start alpha at the largest |x|."""
        self.alpha.copy_(x.abs().max().clamp_min(TINY))
        self.signed.fill_(float(x.min() < 0))

    def stats(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha.detach()}
