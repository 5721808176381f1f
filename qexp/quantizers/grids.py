"""Grids: the levels a bit-width allows, and projection onto them. Ranges: where a grid begins and ends."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from qexp.quantizers import functional as F


class Grid(nn.Module, ABC):
    """Projects a tensor onto its levels, given the range [lower, upper]; passes no gradient.

    `bits` is the nominal bit-width, which orders the grids of a mix and weighs its attention (DQA, eq. 7).
    """

    def __init__(self, bits: int):
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the projected tensor, of the shape of `x`."""

    @abstractmethod
    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return (uint8 codes of the shape of `x`, levels)."""


class MinMax(Grid):
    """2**bits evenly spaced levels, both ends of the range included (DQA, eq. 10)."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return F.uniform(x, lower, upper, self.bits)

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return F.uniform_codes(x, lower, upper, self.bits).to(torch.uint8), F.uniform_levels(lower, upper, self.bits)


class BWN(Grid):
    """-beta and +beta with beta = mean|x| over the tensor; zero maps to +beta (DQA, eq. 14). Weights only."""

    def __init__(self, bits: int = 1):
        if bits != 1:
            raise ValueError(f"the grid bwn has 1 bit, not {bits}")
        super().__init__(bits)

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        beta = x.abs().mean()
        return torch.where(x >= 0, beta, -beta)

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        beta = x.abs().mean()
        return (x >= 0).to(torch.uint8), torch.stack([-beta, beta])


class Float(Grid):
    """The tensor itself: full precision as a member of a mix."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return x

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError("full precision has no codes")


class TensorRange(nn.Module):
    """The smallest and largest value of the tensor at hand: the range of a weight."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.aminmax(x)

    def calibrate(self, x: Tensor) -> None:
        """Nothing to set."""


class RunningRange(nn.Module):
    """The range of a layer's input: the batch's own while training, a running average of them in evaluation.

    The DQA paper is silent about activation ranges; this is the reading of batch norm, with its momentum of 0.1.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("lower", torch.zeros(()))
        self.register_buffer("upper", torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.lower, self.upper
        lower, upper = torch.aminmax(x)
        self.lower.lerp_(lower.to(self.lower.dtype), self.momentum)
        self.upper.lerp_(upper.to(self.upper.dtype), self.momentum)
        return lower, upper

    def calibrate(self, x: Tensor) -> None:
        """Start the running range at that of `x`."""
        lower, upper = torch.aminmax(x)
        self.lower.copy_(lower)
        self.upper.copy_(upper)


_GRIDS: dict[str, type[Grid]] = {"minmax": MinMax, "bwn": BWN, "fp": Float}


def parse_mix(mix: tuple[str, ...]) -> list[Grid]:
    """Return the grids that entries such as `minmax@2`, `bwn@1` or `fp` name; `fp` counts as 32 bits.

    Raises:
        ValueError: an entry that is no grid, or entries that are not in order of growing bit-width.
    """
    grids = []
    for entry in mix:
        name, _, bits = entry.partition("@")
        if name not in _GRIDS or (bits and not bits.isdigit()) or (not bits and name != "fp"):
            raise ValueError(
                f"mix entry '{entry}' is not GRID@BITS with a grid of {', '.join(_GRIDS)} (fp needs no bits)"
            )
        if name == "minmax" and not 1 <= int(bits) <= 8:
            raise ValueError(f"mix entry '{entry}': the grid minmax has 1 to 8 bits")
        grids.append(_GRIDS[name](int(bits or 32)))
    if [grid.bits for grid in grids] != sorted({grid.bits for grid in grids}):
        raise ValueError(f"mix [{','.join(mix)}] must go from the lowest bit-width to the highest")
    return grids


def make_grids(grid: str, bits: tuple[int, ...], *, of_weights: bool) -> list[Grid]:
    """Return one grid per bit-width; above 8 bits it is full precision, 1-bit weights use BWN.

    Activations at 1 bit stay on the ends of their range: after a ReLU, BWN would leave them a single value.
    """
    return [_one_grid(grid, width, of_weights=of_weights) for width in bits]


def _one_grid(grid: str, bits: int, *, of_weights: bool) -> Grid:
    if bits > 8:
        return Float(bits)
    if bits == 1 and of_weights:
        return BWN()
    return _GRIDS[grid](bits)
