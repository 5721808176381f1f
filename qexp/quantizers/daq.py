"""DAQ: Distance-aware Quantization (Kim, Lee, Ham, ICCV 2021, arXiv 2108.06983).

The paper assigns a value to its two neighbouring levels by a soft argmax over distance scores, with a temperature that
a controller adapts to every value. In exact arithmetic that forward is rounding (half down), and its backward is a
slope that depends on the distance to the nearest level only:

    D'(t) = gamma / (2 sinh gamma) * coth((|1 - 2r| + 1/sigma^2) / 2),    r the fractional part of t

so training and evaluation share one forward, and there is no quantizer gap. A layer multiplies its output by a learned
|beta|. Our extension: a layer whose input is negative somewhere at calibration gets the range [-u, u] and the levels
[-1, 1] (the published l = 0 would drop every negative value). sigma and gamma are published for 1 bit only; the same
values serve at every bit-width.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qexp.quantizers.base import ALONE, Method, Quantizer, Site
from qexp.quantizers.functional import TINY, as_float
from qexp.types import Positive


def normalized_position(x: Tensor, lower: Tensor, upper: Tensor, steps: int) -> Tensor:
    """Return t = (x - lower) / delta with delta = (upper - lower) / steps, not clamped."""
    return (x - lower) / ((upper - lower).clamp_min(TINY) / steps)


def round_half_down(t: Tensor, steps: int) -> Tensor:
    """Return t clamped to [0, steps] and rounded to the nearest integer, a tie to the lower one."""
    return (t.clamp(0, steps) - 0.5).ceil_().add_(0.0)  # + 0.0 turns -0.0 into 0.0


class _DistanceAwareRounding(torch.autograd.Function):
    """Rounding with DAQ's slope; saves its input only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lower: Tensor, upper: Tensor, steps: int, sigma: float, gamma: float) -> Tensor:
        ctx.save_for_backward(x, lower, upper)
        ctx.steps, ctx.sigma, ctx.gamma = steps, sigma, gamma
        return round_half_down(normalized_position(x, lower, upper, steps), steps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lower, upper = ctx.saved_tensors
        t = normalized_position(x, lower, upper, ctx.steps)
        inside = (t >= 0) & (t <= ctx.steps)  # both ends included, as torch.clamp's own gradient
        t = t.clamp_(0, ctx.steps)
        distance = (2 * (t - t.floor()) - 1).abs_().add_(1 / ctx.sigma**2)
        slope = (2 / distance.expm1_()).add_(1).mul_(ctx.gamma / (2 * math.sinh(ctx.gamma)))
        dx = (grad * slope).mul_(inside).div_((upper - lower).clamp_min(TINY) / ctx.steps)
        # Sums over a whole feature map need double precision; the products themselves do not.
        d_upper = -(dx * t).sum(dtype=torch.float64) / ctx.steps
        d_lower = -dx.sum(dtype=torch.float64) - d_upper
        return dx, d_lower.to(lower.dtype), d_upper.to(upper.dtype), None, None, None


def distance_aware_round(x: Tensor, lower: Tensor, upper: Tensor, bits: int, *, sigma: float, gamma: float) -> Tensor:
    """Return the index 0 .. 2**bits - 1 of the level nearest to `x`, as floats; differentiable in all tensors."""
    return _DistanceAwareRounding.apply(x, lower, upper, 2**bits - 1, sigma, gamma)


def to_level(index: Tensor, signed: Tensor | float, steps: int) -> Tensor:
    """Return the level of an index: k / steps in [0, 1], or (2k - steps) / steps in [-1, 1] where `signed` is 1."""
    return (index * (1 + signed) - signed * steps) / steps


class DAQWeight(Quantizer):
    """Standardized weight to levels in [-1, 1]; learns the range [lower, upper] (l_W and u_W, begin at -3 and 3).

    Mean and (unbiased) standard deviation of the whole tensor are constants for the gradient.
    """

    roles = {"lower": "range", "upper": "range"}

    def __init__(self, bits: int, *, sigma: float, gamma: float):
        super().__init__(bits)
        self.sigma, self.gamma = sigma, gamma
        self.lower = nn.Parameter(torch.tensor(-3.0))
        self.upper = nn.Parameter(torch.tensor(3.0))

    def standardize(self, weight: Tensor) -> Tensor:
        """Return (w - mean) / std; a constant weight gives zeros."""
        std, mean = torch.std_mean(weight.detach())
        return (weight - mean) / torch.nan_to_num(std).clamp_min(TINY)

    def forward(self, x: Tensor) -> Tensor:
        standard = self.standardize(as_float(x))
        index = distance_aware_round(standard, self.lower, self.upper, self.bits, sigma=self.sigma, gamma=self.gamma)
        return to_level(index, 1.0, 2**self.bits - 1).to(x.dtype)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps = 2**self.bits - 1
        standard = self.standardize(as_float(x.detach()))
        index = round_half_down(normalized_position(standard, self.lower, self.upper, steps), steps)
        return index.to(torch.uint8), to_level(torch.arange(steps + 1, device=x.device, dtype=index.dtype), 1.0, steps)

    def stats(self) -> dict[str, Tensor]:
        return {"lower": self.lower.detach(), "upper": self.upper.detach()}


class DAQActivation(Quantizer):
    """Layer input to levels in [0, 1]; learns the upper end u_A of the range (begins at 3 standard deviations).

    Where calibration sees a negative input, the range is [-u, u] and the levels lie in [-1, 1].
    """

    roles = {"upper": "range"}
    signed: Tensor  # 0 or 1

    def __init__(self, bits: int, *, sigma: float, gamma: float):
        super().__init__(bits)
        self.sigma, self.gamma = sigma, gamma
        self.upper = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("signed", torch.tensor(0.0))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        x = as_float(x)
        self.upper.copy_(torch.nan_to_num(3 * x.std()).clamp_min(TINY))
        self.signed.fill_(float(x.min() < 0))

    def forward(self, x: Tensor) -> Tensor:
        index = distance_aware_round(
            as_float(x), -self.signed * self.upper, self.upper, self.bits, sigma=self.sigma, gamma=self.gamma
        )
        return to_level(index, self.signed, 2**self.bits - 1).to(x.dtype)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps = 2**self.bits - 1
        t = normalized_position(as_float(x.detach()), -self.signed * self.upper, self.upper, steps)
        index = round_half_down(t, steps)
        levels = torch.arange(steps + 1, device=x.device, dtype=index.dtype)
        return index.to(torch.uint8), to_level(levels, self.signed, steps)

    def stats(self) -> dict[str, Tensor]:
        return {"upper": self.upper.detach(), "signed": self.signed}


@dataclass(frozen=True, kw_only=True)
class DAQ(Method):
    """DAQ for weights and activations, with a learned output scale per layer.

    Attributes:
        weight_sigma, weight_gamma: kernel width and temperature constant of the weights.
        activation_sigma, activation_gamma: those of the activations.
    """

    output_scale = True

    weight_sigma: Positive
    weight_gamma: Positive
    activation_sigma: Positive
    activation_gamma: Positive

    def weight(self, bits: int, site: Site = ALONE) -> DAQWeight:
        return DAQWeight(bits, sigma=self.weight_sigma, gamma=self.weight_gamma)

    def activation(self, bits: int, site: Site = ALONE) -> DAQActivation:
        return DAQActivation(bits, sigma=self.activation_sigma, gamma=self.activation_gamma)
