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
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from qexp.quantizers.base import ALONE, Method, Quantizer, Site
from qexp.quantizers.functional import TINY, as_float
from qexp.types import Positive, Range

Sigma = Annotated[float, Range(above=0, high=100)]  # without a kernel the slope has a pole between two levels


def normalized_position(x: Tensor, lower: Tensor, upper: Tensor, steps: int) -> Tensor:
    """Return t = (x - lower) / delta with delta = (upper - lower) / steps, not clamped; a new tensor."""
    return (x - lower).div_((upper - lower).clamp_min(TINY) / steps)


def nearest_index(x: Tensor, lower: Tensor, upper: Tensor, steps: int) -> Tensor:
    """Return the index 0 .. steps of the nearest level, as floats; a tie goes to the lower one."""
    return normalized_position(x, lower, upper, steps).clamp_(0, steps).sub_(0.5).ceil_()


def to_level(index: Tensor, signed: Tensor, steps: int) -> Tensor:
    """Return, in place, the level of an index: k / steps, or (2k - steps) / steps where `signed` is 1 and not 0."""
    return index.mul_(1 + signed).add_(0 - signed * steps).div_(steps)  # + 0 also turns -0.0 into 0.0


class _DistanceAwareRounding(torch.autograd.Function):
    """Rounding with DAQ's slope; saves its input only, and works in place on what it makes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lower: Tensor, upper: Tensor, signed: Tensor, steps: int, sigma: float, gamma: float
    ) -> Tensor:
        ctx.save_for_backward(x, lower, upper, signed)
        ctx.steps, ctx.sigma, ctx.gamma = steps, sigma, gamma
        return to_level(nearest_index(x, lower, upper, steps), signed, steps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lower, upper, signed = ctx.saved_tensors
        raw = normalized_position(x, lower, upper, ctx.steps)
        t = raw.clamp(0, ctx.steps)
        # Both ends are inside, as in torch.clamp's own gradient; a range turned inside out has no inside.
        outside = t.ne(raw).logical_or_(upper <= lower)
        coth = t.frac().sub_(0.5).abs_().add_(0.5 / ctx.sigma**2).tanh_().reciprocal_()
        factor = ctx.gamma / (2 * math.sinh(ctx.gamma)) * (1 + signed) / (upper - lower).clamp_min(TINY)
        dx = coth.mul_(grad).mul_(factor).masked_fill_(outside, 0)
        # Sums over a whole feature map need double precision; the products themselves do not.
        d_upper = -t.mul_(dx).sum(dtype=torch.float64) / ctx.steps
        d_lower = -dx.sum(dtype=torch.float64) - d_upper
        return dx, d_lower.to(lower.dtype), d_upper.to(upper.dtype), None, None, None, None


def distance_aware(
    x: Tensor, lower: Tensor, upper: Tensor, signed: Tensor, bits: int, *, sigma: float, gamma: float
) -> Tensor:
    """Return the level nearest to `x`, of the shape of `x`; differentiable in x, lower and upper.

    Args:
        x: any shape.
        lower: scalar, begin of the range.
        upper: scalar, end of the range.
        signed: scalar, 0 for levels in [0, 1], 1 for levels in [-1, 1].
        bits: there are 2**bits levels.
        sigma: kernel width.
        gamma: temperature constant.
    """
    return _DistanceAwareRounding.apply(x, lower, upper, signed, 2**bits - 1, sigma, gamma)


def codes_and_levels(x: Tensor, lower: Tensor, upper: Tensor, signed: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return (uint8 codes of the shape of `x`, their 2**bits levels)."""
    steps = 2**bits - 1
    codes = nearest_index(x, lower, upper, steps).to(torch.uint8)
    return codes, to_level(torch.arange(steps + 1, device=x.device, dtype=x.dtype), signed, steps)


class DAQWeight(Quantizer):
    """Standardized weight to levels in [-1, 1]; learns the range [lower, upper] (l_W and u_W, begin at -3 and 3).

    Mean and (unbiased) standard deviation of the whole tensor are constants for the gradient.
    """

    roles = {"lower": "range", "upper": "range"}
    signed: Tensor

    def __init__(self, bits: int, *, sigma: float, gamma: float):
        super().__init__(bits)
        self.sigma, self.gamma = sigma, gamma
        self.lower = nn.Parameter(torch.tensor(-3.0))
        self.upper = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("signed", torch.tensor(1.0), persistent=False)

    def standardize(self, weight: Tensor) -> Tensor:
        """Return (w - mean) / std; a constant weight gives zeros."""
        centered = weight - weight.detach().mean()
        # torch.std takes four times as long; the norm of what is centered anyway is the same number.
        std = torch.linalg.vector_norm(centered.detach()) / math.sqrt(max(weight.numel() - 1, 1))
        return centered / std.clamp_min(TINY)

    def forward(self, x: Tensor) -> Tensor:
        standard = self.standardize(as_float(x))
        constants = {"sigma": self.sigma, "gamma": self.gamma}
        return distance_aware(standard, self.lower, self.upper, self.signed, self.bits, **constants).to(x.dtype)

    @torch.no_grad()
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return codes_and_levels(self.standardize(as_float(x)), self.lower, self.upper, self.signed, self.bits)

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

    @property
    def lower(self) -> Tensor:
        """Begin of the range: 0, or -upper where inputs are signed."""
        return -self.signed * self.upper

    def forward(self, x: Tensor) -> Tensor:
        constants = {"sigma": self.sigma, "gamma": self.gamma}
        value = as_float(x)
        return distance_aware(value, self.lower, self.upper, self.signed, self.bits, **constants).to(x.dtype)

    @torch.no_grad()
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return codes_and_levels(as_float(x), self.lower, self.upper, self.signed, self.bits)

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

    weight_sigma: Sigma
    weight_gamma: Positive
    activation_sigma: Sigma
    activation_gamma: Positive

    def weight(self, bits: int, site: Site = ALONE) -> DAQWeight:
        return DAQWeight(bits, sigma=self.weight_sigma, gamma=self.weight_gamma)

    def activation(self, bits: int, site: Site = ALONE) -> DAQActivation:
        return DAQActivation(bits, sigma=self.activation_sigma, gamma=self.activation_gamma)
