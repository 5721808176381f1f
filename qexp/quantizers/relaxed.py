"""What the methods of relaxed quantization share (RQ, arXiv 1810.01875; SRQ, 1911.12990; CPQ, 2109.02100).

A value gets logistic noise of scale sigma, and the probability of a grid point alpha k is the mass of its bin. Grid and
noise are learned, as log alpha and log sigma. Evaluated, all round: alpha clip(round(x / alpha), k_low, k_high).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from qexp.quantizers.base import TINY, Bins, IntegerForm, Quantizer
from qexp.quantizers.numerics import (
    Scalar,
    absolute_mean,
    as_double,
    as_float,
    as_output,
    at_least,
    clamp_,
    dense,
    pieces,
    precision,
    scalar,
    value_range,
)

NARROWEST, WIDEST = 0.02, 5.0  # sigma / alpha is clamped to this
START = 1 / 3  # sigma / alpha after calibration


def nearest_point(x: Tensor, alpha: Scalar, low: Scalar, high: Scalar, *, halves: bool = False) -> Tensor:
    """Return clip(round(x / alpha), low, high), in a new tensor.

    Args:
        x: any shape, in single or double precision.
        alpha: distance of neighbouring points.
        low: k of the lowest point; a number if `high` is one.
        high: k of the highest point.
        halves: whether `low` may lie half-way between whole numbers; every k does, then.
    """
    index = torch.div(x, alpha)
    if not halves:
        return clamp_(index.round_(), low, high)
    shift = -low % 1
    return clamp_(index.add_(shift).round_(), low + shift, high + shift).sub_(shift)


def rounded(x: Tensor, alpha: Scalar, low: Scalar, high: Scalar, *, halves: bool = False) -> Tensor:
    """Return alpha * nearest_point of a dense tensor, of its shape and type; half precision computes in single."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return as_output(nearest_point(as_float(x), alpha, low, high, halves=halves).mul_(alpha), x)
    found = torch.empty_like(x)
    for part, out in pieces(x, found):
        out.copy_(nearest_point(as_float(part), alpha, low, high, halves=halves).mul_(alpha))
    return found


class RelaxedQuantizer(Quantizer):
    """A grid alpha k, k = k_low .. k_high, with noise of scale sigma; both learned by their logarithms.

    A method says its ends, and has a `forward` for training.

    Attributes:
        signed: 0 or 1; of inputs, whether calibration saw negative ones.
        of_inputs: whether this quantizes a layer's input.
        widest: the bit-width that it was made for, where `bits` may have become fewer.
    """

    roles: ClassVar[dict[str, str]] = {"log_alpha": "range", "log_sigma": "noise"}
    signed: Tensor

    def __init__(self, bits: int, *, of_inputs: bool):
        super().__init__(bits)
        self.of_inputs, self.widest = of_inputs, bits
        first = 1 / max(1, 2**bits - 1 if of_inputs else 2 ** (bits - 1) - 1)  # not calibrated: up to 1
        self.log_alpha = nn.Parameter(torch.tensor(math.log(first)))
        self.log_sigma = nn.Parameter(torch.tensor(math.log(first * START)))
        self.register_buffer("signed", torch.tensor(0.0 if of_inputs else 1.0), persistent=of_inputs)

    @property
    def k_low(self) -> Scalar:
        """The lowest point."""
        raise NotImplementedError

    @property
    def k_high(self) -> Scalar:
        """The highest point, a number where the lowest is one."""
        raise NotImplementedError

    @property
    def halves(self) -> bool:
        """Whether the points may lie at k + 1/2: signed inputs of 1 bit have one on each side of zero."""
        return self.of_inputs and self.widest == 1

    @property
    def alpha(self) -> Tensor:
        """Distance of neighbouring points, 0-dim; rounded once, so that codes are the same on every machine."""
        return as_double(self.log_alpha).exp().to(self.log_alpha.dtype)

    @property
    def sigma(self) -> Tensor:
        """Scale of the noise, 0-dim: 0.02 alpha to 5 alpha."""
        ratio = (self.log_sigma - self.log_alpha).clamp(math.log(NARROWEST), math.log(WIDEST))
        return as_double(self.log_alpha + ratio).exp().to(self.log_alpha.dtype)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Start alpha as LSQ does, for weights of 4 bits and more at the largest (a reading); sigma = alpha / 3."""
        if self.of_inputs:
            self.signed.fill_(float(x.min() < 0))
        self.log_alpha.copy_(self._first_alpha(x).clamp_min(TINY).log())
        self.log_sigma.copy_(self.log_alpha + math.log(START))

    def _first_alpha(self, x: Tensor) -> Tensor:
        if self.of_inputs:
            return 2 * absolute_mean(x) / at_least(self.k_high, 1.0) ** 0.5
        highest = 2 ** (self.widest - 1) - 1
        if self.widest == 1:
            return absolute_mean(x)
        if self.widest <= 3:
            return 2 * absolute_mean(x) / highest**0.5
        lower, upper = value_range(x)
        return torch.maximum(as_double(-lower), as_double(upper)) / highest

    @torch.no_grad()
    def hard(self, x: Tensor) -> Tensor:
        """Return alpha clip(round(x / alpha)), of the shape and type of `x`, without a gradient."""
        return rounded(dense(x), scalar(self.alpha), self.k_low, self.k_high, halves=self.halves)

    @property
    def _count(self) -> int:
        return round(float(self.k_high - self.k_low)) + 1

    @torch.no_grad()
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.k_low
        points = nearest_point(as_float(x), scalar(self.alpha), low, self.k_high, halves=self.halves)
        levels = torch.arange(self._count, device=x.device, dtype=precision(x)).add_(low).mul_(scalar(self.alpha))
        return points.sub_(low).to(torch.uint8), levels

    @torch.no_grad()
    def integer_form(self, x: Tensor) -> IntegerForm:
        alpha, low = scalar(self.alpha), self.k_low
        codes = nearest_point(as_float(x), alpha, low, self.k_high, halves=self.halves).sub_(low)
        factor = 1 + scalar(self.signed) if self.halves else 1  # twice the halves are whole
        return IntegerForm(codes, factor, factor * low, alpha / factor, 0.0)

    @torch.no_grad()
    def bins(self, x: Tensor) -> Bins:
        step = as_double(self.alpha)
        return Bins.even(step * self.k_low, step, self._count)

    def stats(self) -> dict[str, Tensor]:
        alpha = self.alpha.detach()
        return {"alpha": alpha, "sigma_by_alpha": self.sigma.detach() / alpha}
