"""Fading: a method with all that has a state: a learned range, and a soft form that fades away while it trains."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qexp.quantizers.base import LayerInfo, Method, Quantizer, straight_through
from qexp.utils.types import Positive, Progress


class FadingQuantizer(Quantizer):
    """Even levels from -reach to reach; while soft, a share of the value itself stays."""

    roles = {"reach": "range"}
    has_soft_form = True

    def __init__(self, bits: int, deviations: float):
        super().__init__(bits)
        self.deviations = deviations
        self.reach = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("share", torch.tensor(0.5))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        self.reach.copy_(self.deviations * x.float().std().clamp_min(1e-6))

    def anneal(self, progress: Progress) -> None:
        self.share.fill_(0.5 * (1 - progress.step / progress.steps))

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps, reach = 2**self.bits - 1, self.reach.detach()
        codes = ((x.detach() / reach + 1) / 2 * steps).round().clamp(0, steps)
        return codes.to(torch.uint8), torch.linspace(-1, 1, steps + 1, device=x.device) * reach

    def forward(self, x: Tensor) -> Tensor:
        codes, levels = self.codes(x)
        hard = straight_through(torch.maximum(torch.minimum(x, self.reach), -self.reach), levels[codes.long()])
        return (1 - self.share) * hard + self.share * x if self.is_soft else hard


@dataclass(frozen=True, kw_only=True)
class Fading(Method):
    deviations: Positive

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> FadingQuantizer:
        return FadingQuantizer(bits, self.deviations)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> FadingQuantizer:
        return FadingQuantizer(bits, self.deviations)
