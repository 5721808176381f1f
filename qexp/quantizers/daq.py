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

from qexp.quantizers.base import TINY, Bins, IntegerForm, LayerInfo, Method, Quantizer
from qexp.quantizers.channels import Granularity, spread
from qexp.quantizers.numerics import (
    Scalar,
    as_double,
    as_float,
    as_output,
    as_tensor,
    at_least,
    beside,
    dense,
    dot,
    float_copy,
    laid_out_as,
    mean_and_std,
    scalar,
    steps_above,
    total,
)
from qexp.utils.types import Positive, Range

Sigma = Annotated[float, Range(above=0, high=100)]  # without a kernel the slope has a pole between two levels
Standard = tuple[Scalar, Scalar]  # mean and deviation


def soft_index(
    x: Tensor, lower: Tensor, upper: Tensor, bits: int, *, sigma: float, gamma: float, temperature: float | None = None
) -> Tensor:
    """Return D(x), in 0 .. 2**bits - 1: the paper's soft argmax over the two levels q next to a value t.

    Their scores are exp(-|t - q|) times a kernel exp(-(q - q*)^2 / sigma^2) around the nearer level q*. The temperature
    is gamma / |s_1 - s_0|, a constant for the gradient, and the levels are stretched so that D(x) is one of them. With
    a fixed `temperature`, and levels as they are, D(x) lies between them: the quantizer gap, which the paper closes.
    """
    steps = 2**bits - 1
    t = ((x - lower) / ((upper - lower) / steps)).clamp(0, steps)
    r = t - (floor := t.detach().floor().clamp_max(steps - 1))
    nearer = (r.detach() > 0.5).to(x.dtype)
    scores = [torch.exp(-((level - nearer) ** 2) / sigma**2) * torch.exp(-(r - level).abs()) for level in (0, 1)]
    if temperature is not None:
        return floor + torch.softmax(temperature * torch.stack(scores), 0)[1]
    controlled = gamma / (scores[0] - scores[1]).abs().detach()
    assigned = torch.softmax(controlled * torch.stack(scores), 0)
    stretch = 1 / math.expm1(gamma)
    return floor - stretch * assigned[0] + (1 + stretch) * assigned[1]


def distance_aware_plain(
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    signed: Tensor,
    bits: int,
    *,
    sigma: float,
    gamma: float,
    scale: Tensor | None = None,
    standard: Standard | None = None,
) -> Tensor:
    """Return D(x) / n, or (2 D(x) - n) / n where `signed`, with n = 2**bits - 1: the definition of `distance_aware`."""
    (mean, std), steps = standard or (0.0, 1.0), 2**bits - 1
    index = soft_index((x - mean) / std, lower, upper, bits, sigma=sigma, gamma=gamma)
    levels = (index * (1 + signed) - signed * steps) / steps
    return levels if scale is None else levels * scale.abs()


def distance_aware(
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    signed: Tensor,
    bits: int,
    *,
    sigma: float,
    gamma: float,
    scale: Tensor | None = None,
    standard: Standard | None = None,
) -> Tensor:
    """Return the level nearest to `x`, of the shape and type of `x`; differentiable in x, lower, upper and scale.

    In exact arithmetic the same as `distance_aware_plain`, as one operation that saves its input only.

    Args:
        x: any shape; half precision is computed in single.
        lower: scalar, lower end of the range; or one for each output channel (`qexp.quantizers.channels`).
        upper: of the same shape, upper end of the range.
        signed: scalar, 0 for levels in [0, 1], 1 for levels in [-1, 1].
        bits: there are 2**bits levels.
        sigma: kernel width.
        gamma: temperature constant.
        scale: scalar, whose absolute value multiplies the levels.
        standard: mean to subtract and deviation to divide by before all else; constants for the gradient.
    """
    return _DistanceAwareRounding.apply(x, lower, upper, scale, signed, standard, 2**bits - 1, sigma, gamma)


def position(x: Tensor, lower: Scalar, delta: Scalar, standard: Standard | None = None) -> Tensor:
    """Return t = (x - lower) / delta, not clamped, in a new tensor; `standard` standardizes x first."""
    if standard is None:
        return steps_above(x, lower, delta)
    return torch.sub(x, standard[0]).div_(standard[1]).sub_(beside(lower, x)).div_(beside(delta, x))


def nearest_(t: Tensor) -> Tensor:
    """Return, in place, the index of the level nearest to a position in 0 .. steps; a tie goes to the lower one."""
    return t.sub_(0.5).ceil_()


def to_level_(index: Tensor, signed: Scalar, steps: int) -> Tensor:
    """Return, in place, the level of an index: k / steps, or (2k - steps) / steps where `signed` is 1 and not 0."""
    return index.sub_(signed * (steps / 2)).div_(steps / (1 + signed))  # both numbers are exact: the same quotients


class _DistanceAwareRounding(torch.autograd.Function):
    """Rounding with the slope D'(t) above, times |scale|."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lower: Tensor, upper: Tensor, scale: Tensor | None, signed: Tensor, *fixed: Any
    ) -> Tensor:
        x = dense(x)
        ctx.save_for_backward(x, lower, upper, scale, signed)
        ctx.standard, ctx.steps, ctx.sigma, ctx.gamma = standard, steps, _, _ = fixed
        low, high, sign = scalar(lower), scalar(upper), scalar(signed)
        delta = at_least(high - low, TINY) / steps
        index = nearest_(position(as_float(x), low, delta, standard).clamp_(0, steps))
        if scale is None:
            return as_output(to_level_(index, sign, steps), x)
        size = scalar(scale.abs()) / steps
        return as_output(index.mul_((1 + sign) * size).sub_(sign * steps * size), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lower, upper, scale, signed = ctx.saved_tensors
        steps, low, high, sign = ctx.steps, scalar(lower), scalar(upper), scalar(signed)
        size, width = 1.0 if scale is None else scalar(scale.abs()), at_least(high - low, TINY)
        # A range turned inside out has no inside, and no gradient.
        factor = ctx.gamma / (4 * math.sinh(ctx.gamma)) * (1 + sign) * size / width * (high > low)
        mean, std = ctx.standard or (0.0, 1.0)
        first, delta = mean + std * low, std * width / steps  # of x itself, not standardized
        g = as_float(laid_out_as(grad, x))
        t = position(as_float(x), first, delta)
        inside = float_copy(t).eq_(t.clamp_(0, steps))  # 1, lower and upper included as in torch.clamp, or 0
        slope = inside.mul_(g)
        # coth(a / 2) / 2 = 1 / (4 sigmoid(a) - 2), a = |1 - 2r| + 1 / sigma^2
        a = torch.frac(t).mul_(-2).add_(1).abs_().add_(1 / ctx.sigma**2)
        slope.div_(a.sigmoid_().sub_(0.5))
        d_upper = -factor * dot(t, slope, lower.shape) / steps
        d_lower = -factor * total(slope, lower.shape) - d_upper
        d_scale = None
        if scale is not None:
            by_index, upstream = dot(nearest_(t), g), total(g)
            d_scale = scale.sign() * (((1 + sign) * by_index - sign * steps * upstream) / steps)
        dx = as_output(slope.mul_(beside(factor / std, slope)), x)
        return dx, as_tensor(d_lower, lower), as_tensor(d_upper, upper), d_scale, None, None, None, None, None


class DAQQuantizer(Quantizer):
    """Levels k / n, or (2 k - n) / n where `signed`, with n = 2**bits - 1, on a learned range."""

    lower: Tensor
    upper: Tensor
    signed: Tensor  # 0 or 1

    def __init__(self, bits: int, *, sigma: float, gamma: float):
        super().__init__(bits)
        self.sigma, self.gamma = sigma, gamma

    def _standard(self, x: Tensor) -> Standard | None:
        """Return the mean to subtract and the deviation to divide by, if any."""
        return None

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        ends, standard = (self.lower, self.upper, self.signed), self._standard(x)
        return distance_aware(x, *ends, self.bits, sigma=self.sigma, gamma=self.gamma, scale=scale, standard=standard)

    @torch.no_grad()
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes, steps = self.integer_form(x).codes, 2**self.bits - 1
        levels = to_level_(torch.arange(steps + 1, device=x.device, dtype=codes.dtype), scalar(self.signed), steps)
        return codes.to(torch.uint8), levels

    @torch.no_grad()
    def integer_form(self, x: Tensor) -> IntegerForm:
        steps, low, sign = 2**self.bits - 1, scalar(self.lower), scalar(self.signed)
        delta = at_least(scalar(self.upper) - low, TINY) / steps
        codes = nearest_(position(as_float(x), low, delta, self._standard(x)).clamp_(0, steps))
        return IntegerForm(codes, 1 + sign, -sign * steps, 1 / steps, 0.0)


class DAQWeight(DAQQuantizer):
    """Standardized weight to levels in [-1, 1]; learns the range [lower, upper] (l_W and u_W, which start at -3 and 3).

    Mean and (unbiased) standard deviation of the whole tensor are constants for the gradient.

    The range is one number each, or has the `shape` of one for each output channel, all of which start alike.
    """

    roles = {"lower": "range", "upper": "range"}
    is_scale_free = True

    def __init__(self, bits: int, *, sigma: float, gamma: float, shape: tuple[int, ...] = ()):
        super().__init__(bits, sigma=sigma, gamma=gamma)
        self.lower = nn.Parameter(torch.full(shape, -3.0))
        self.upper = nn.Parameter(torch.full(shape, 3.0))
        self.register_buffer("signed", torch.tensor(1.0), persistent=False)

    def _standard(self, weight: Tensor) -> Standard:
        mean, std = mean_and_std(weight)
        return mean, at_least(std, TINY)

    @torch.no_grad()
    def bins(self, x: Tensor) -> Bins:
        (mean, std), low = self._standard(x), as_double(self.lower)
        step = (as_double(self.upper) - low).clamp_min(TINY) / (2**self.bits - 1)
        return Bins.even(low * std + mean, step * std, 2**self.bits)

    def stats(self) -> dict[str, Tensor]:
        return spread("lower", self.lower.detach()) | spread("upper", self.upper.detach())


class DAQActivation(DAQQuantizer):
    """Layer input to levels in [0, 1]; learns the upper end u_A of the range (starts at 3 standard deviations).

    Where calibration sees a negative input, the range is [-u, u] and the levels lie in [-1, 1].
    """

    roles = {"upper": "range"}

    def __init__(self, bits: int, *, sigma: float, gamma: float):
        super().__init__(bits, sigma=sigma, gamma=gamma)
        self.upper = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("signed", torch.tensor(0.0))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        self.upper.fill_(at_least(3 * mean_and_std(x)[1], TINY))
        self.signed.fill_(float(x.min() < 0))

    @property
    def lower(self) -> Tensor:  # type: ignore[override]
        """Lower end of the range: 0, or -upper where inputs are signed."""
        return -self.signed * self.upper

    def stats(self) -> dict[str, Tensor]:
        return {"upper": self.upper.detach(), "signed": self.signed}


@dataclass(frozen=True, kw_only=True)
class DAQ(Method):
    """DAQ for weights and activations, with a learned output scale per layer.

    Attributes:
        weight_sigma, weight_gamma: kernel width and temperature constant of the weights.
        activation_sigma, activation_gamma: those of the activations.
        granularity: whether each output channel of a weight learns a range of its own.
    """

    output_scale = True

    weight_sigma: Sigma
    weight_gamma: Positive
    activation_sigma: Sigma
    activation_gamma: Positive
    granularity: Granularity

    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> DAQWeight:
        shape = layer.channel_shape if self.granularity == "channel" else ()
        return DAQWeight(bits, sigma=self.weight_sigma, gamma=self.weight_gamma, shape=shape)

    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> DAQActivation:
        return DAQActivation(bits, sigma=self.activation_sigma, gamma=self.activation_gamma)
