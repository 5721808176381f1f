"""SAWB: the clip of a weight tensor at which a uniform grid of 2**bits levels on [-c, c] errs least.

Two readings of "statistics-aware weight binning" (Choi et al. 2018, arXiv 1807.06964), per tensor and without gradient:

* `search`: c minimizes the mean squared error (DQA, eq. 11 and 12). Searched over a histogram of |w|, and again every
  100 steps; in between the clip is kept. The DQA paper does not say how often it is found.
* `formula`: c = c1 sqrt(E w^2) - c2 E|w| with fitted coefficients, as published and as IBM's fms-model-optimizer uses
  it. Close to the optimum at 2 bits, up to two thirds off at 8 bits on some distributions.

Outside [-c, c] the gradient passes unchanged, as in that code for plain SAWB; the DQA paper is silent.
"""

from typing import Literal

import torch
from torch import Tensor

from qexp.quantizers.base import TINY
from qexp.quantizers.numerics import as_double
from qexp.quantizers.ranges import RangeEstimator

Rule = Literal["search", "formula"]

COEFFICIENTS = {2: (3.12, 2.064), 3: (7.509, 6.892), 4: (12.68, 12.80), 5: (17.74, 18.64), 8: (31.76, 35.04)}
BINS = 4096
CANDIDATES = 128  # of each of the two passes of the search


def formula_clip(weight: Tensor, bits: int) -> Tensor:
    """Return the closed-form clip, 0-dim; the largest |w| where the formula would give a negative one.

    Raises:
        ValueError: there are no coefficients for this bit-width.
    """
    if bits not in COEFFICIENTS:
        raise ValueError(f"sawb=formula has coefficients for {', '.join(map(str, COEFFICIENTS))} bits, not {bits}")
    size, (c1, c2) = as_double(weight).abs(), COEFFICIENTS[bits]
    clip = c1 * size.square().mean().sqrt() - c2 * size.mean()
    return torch.where(clip < 0, size.max(), clip)


def search_clip(weight: Tensor, bits: int) -> Tensor:
    """Return the clip in (0, max|w|] of least squared error (DQA, eq. 12), 0-dim, to about 1e-4 of max|w|."""
    size = as_double(weight).abs().flatten()
    largest = size.max().clamp_min(TINY)
    place = (size * (BINS / largest)).long().clamp_(0, BINS - 1)
    counts = torch.zeros(BINS, dtype=size.dtype, device=size.device).index_add_(0, place, torch.ones_like(size))
    centers = (torch.arange(BINS, dtype=size.dtype, device=size.device) + 0.5) / BINS
    fractions = torch.arange(1, CANDIDATES + 1, dtype=size.dtype, device=size.device) / CANDIDATES
    best = _least_error(fractions, centers, counts, bits)
    nearby = best + (fractions * 2 - 1) / CANDIDATES
    best = _least_error(nearby.clamp(0.1 / CANDIDATES, 1), centers, counts, bits)
    return best * largest


def _least_error(clips: Tensor, values: Tensor, counts: Tensor, bits: int) -> Tensor:
    """Return the one of `clips` (C,) with the least squared error over `values` (B,) that occur `counts` times."""
    steps = 2**bits - 1
    step = 2 * clips[:, None] / steps
    codes = ((values + clips[:, None]) / step).round_().clamp_(0, steps)
    errors = (codes.mul_(step).sub_(clips[:, None]).sub_(values).square_() @ counts).argmin()
    return clips.take(errors)  # indexing would wait for the device


class SawbRange(RangeEstimator):
    """[-c, c] with the clip c of a weight tensor, kept between calibrations.

    Args:
        bits: of the grid it is for.
        rule: how c is found.

    Raises:
        ValueError: the formula has no coefficients for `bits`.
    """

    refresh_interval = 100
    clip: Tensor

    def __init__(self, bits: int, rule: Rule):
        super().__init__()
        if rule == "formula" and bits not in COEFFICIENTS:
            formula_clip(torch.zeros(1), bits)
        self.bits, self.rule = bits, rule
        self.register_buffer("clip", torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return -self.clip, self.clip

    def calibrate(self, x: Tensor) -> None:
        found = search_clip(x, self.bits) if self.rule == "search" else formula_clip(x, self.bits)
        self.clip.copy_(found.clamp_min(TINY))

    def stats(self) -> dict[str, Tensor]:
        return {f"clip_{self.bits}": self.clip}
