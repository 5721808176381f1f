"""What the methods of relaxed quantization share (RQ, arXiv 1810.01875; SRQ, 1911.12990; CPQ, 2109.02100).

A value gets logistic noise of scale sigma, and the probability of a grid point alpha k is the mass of its bin. Grid and
noise are learned, as log alpha and log sigma. Evaluated, all round: alpha clip(round(x / alpha), k_low, k_high).
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from qexp.quantizers.base import TINY, Bins, IntegerForm, Quantizer
from qexp.quantizers.numerics import (
    Scalar,
    as_double,
    as_float,
    as_output,
    clamp_,
    dense,
    pieces,
    precision,
    scalar,
)

NARROWEST, WIDEST = 0.02, 5.0  # sigma / alpha is clamped to this
START = 1 / 3  # sigma / alpha after calibration
SAMPLE, CANDIDATES = 16_384, 160  # values, and distances of points that are tried on them


def nearest_point(x: Tensor, alpha: Scalar, low: Scalar, high: Scalar, *, halves: bool = False) -> Tensor:
    """Return clip(round(x / alpha), low, high), in a new tensor.

    Args:
        x: any shape, in single or double precision.
        alpha: distance of neighbouring points; a column of them gives a row for each.
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


def least_error_alpha(x: Tensor, low: Scalar, high: Scalar, bits: int, *, halves: bool = False) -> Tensor:
    """Return the distance of points, 0-dim, that rounds with the least squared error, to about 3 %.

    LSQ's first step, 2 mean|x| / sqrt(k_high), which goes by the mean alone, is too small for inputs of which most are
    zero: in a LeNet-5 at 2 bits it lost 30 to 58 % of the variance of an input, this one 7 to 9, and 20 of the image.
    """
    place = torch.arange(min(x.numel(), SAMPLE), device=x.device)
    values = as_double(x.reshape(-1)[place * 2_654_435_761 % x.numel()])  # a prime: equally many of everywhere
    powers = torch.linspace(-bits - 2, 1, CANDIDATES, device=x.device, dtype=values.dtype)
    candidates = x.abs().max().clamp_min(TINY).to(values.dtype) * 2**powers
    rounded_to = nearest_point(values, candidates[:, None], low, high, halves=halves).mul_(candidates[:, None])
    return candidates.take(rounded_to.sub_(values).square_().sum(1).argmin())  # indexing would wait for the device


def _exponential(logarithm: Tensor) -> Tensor:
    """Return exp, above 0: a scale that training has thrown out of all bounds is to diverge and not to divide by 0."""
    limits = torch.finfo(logarithm.dtype)
    return as_double(logarithm).exp().to(logarithm.dtype).clamp_min(limits.tiny * limits.eps)


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
    @abstractmethod
    def k_low(self) -> Scalar:
        """The lowest point."""

    @property
    @abstractmethod
    def k_high(self) -> Scalar:
        """The highest point, a number where the lowest is one."""

    @property
    def halves(self) -> bool:
        """Whether the points may lie at k + 1/2: signed inputs of 1 bit have one on each side of zero."""
        return self.of_inputs and self.widest == 1

    @property
    def alpha(self) -> Tensor:
        """Distance of neighbouring points, 0-dim; rounded once, so that codes are the same on every machine."""
        return _exponential(self.log_alpha)

    @property
    def sigma(self) -> Tensor:
        """Scale of the noise, 0-dim: 0.02 alpha to 5 alpha."""
        ratio = (self.log_sigma - self.log_alpha).clamp(math.log(NARROWEST), math.log(WIDEST))
        return _exponential(self.log_alpha + ratio)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Start with the alpha of least squared error, and sigma = alpha / 3 (readings)."""
        if self.of_inputs:
            self.signed.fill_(float(x.min() < 0))
        alpha = least_error_alpha(x, self.k_low, self.k_high, self.widest, halves=self.halves)
        self.log_alpha.copy_(alpha.log())
        self.log_sigma.copy_(self.log_alpha + math.log(START))

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
