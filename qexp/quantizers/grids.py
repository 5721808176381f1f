"""Grids: the levels that a bit-width allows between two ends, and projection onto them; mixes of them by name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from qexp.quantizers import functional as F
from qexp.quantizers.base import FLOAT_BITS
from qexp.quantizers.pact import LearnedClip
from qexp.quantizers.sawb import Rule, SawbClip
from qexp.quantizers.spans import TERNARY_THRESHOLD, AbsoluteMean, KeptMean, RunningRange, Span, TensorRange, Unbounded

WeightGrid = Literal["minmax", "sawb", "twn", "bwn"]
ActivationGrid = Literal["minmax", "pact"]
WIDEST = 8  # bits; a wider member of a mix is full precision


class Grid(nn.Module, ABC):
    """Projects a tensor onto its levels between `lower` and `upper`; passes no gradient.

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


class Uniform(Grid):
    """2**bits evenly spaced levels, both ends included (DQA, eq. 10 and 11)."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return F.uniform(x, lower, upper, self.bits)

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return F.uniform_codes(x, lower, upper, self.bits).to(torch.uint8), F.uniform_levels(lower, upper, self.bits)


class Binary(Grid):
    """The two ends, by sign; zero maps to the upper one (DQA, eq. 14)."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.where(x >= 0, upper, lower)

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return (x >= 0).to(torch.uint8), torch.stack([lower, upper])


class Ternary(Grid):
    """The two ends and zero; zero where |x| <= 0.7 mean|x| (DQA, eq. 15). Counts as 2 bits."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        threshold = TERNARY_THRESHOLD * x.abs().mean()
        return torch.where(x > threshold, upper, torch.where(x < -threshold, lower, torch.zeros_like(upper)))

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        threshold = TERNARY_THRESHOLD * x.abs().mean()
        codes = 1 + (x > threshold).to(torch.int8) - (x < -threshold).to(torch.int8)
        return codes.to(torch.uint8), torch.stack([lower, torch.zeros_like(upper), upper])


class Float(Grid):
    """The tensor itself: full precision as a member of a mix."""

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return x

    def codes(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError("full precision has no codes")


@dataclass(frozen=True)
class Member:
    """One member of a mix: a grid, and the span it lies on, which members may share."""

    grid: Grid
    span: Span


def usual_mix(grid: str, bits: Sequence[int], *, of_weights: bool) -> tuple[str, ...]:
    """Return the entries of a mix of one grid: `("sawb@2", "sawb@4", "sawb@8")`.

    Above 8 bits an entry is full precision. One-bit weights use BWN whatever the grid; BWN and TWN have one bit-width
    each, so that wider entries beside them are min-max. One-bit inputs stay on the ends of their range: after a ReLU,
    BWN would leave them a single value.
    """

    def name(width: int, is_lowest: bool) -> str:
        if width > WIDEST:
            return "fp"
        if of_weights and width == 1:
            return "bwn"
        return "minmax" if grid in ("bwn", "twn") and not is_lowest else grid

    return tuple(f"{name(width, width == bits[0])}@{width}" for width in bits)


def make_mix(entries: Sequence[str], *, of_weights: bool, sawb: Rule) -> list[Member]:
    """Return the members that entries such as `minmax@2`, `bwn@1` or `fp` name; `fp` alone counts as 32 bits.

    Args:
        entries: of growing bit-width.
        of_weights: weights have minmax, sawb, bwn and twn; inputs of layers have minmax and pact.
        sawb: how sawb finds its clip.

    Raises:
        ValueError: an entry that is no grid, or entries that are not in order.
    """
    shared: dict[str, Span] = {"minmax": TensorRange() if of_weights else RunningRange(), "pact": LearnedClip()}
    members = [_member(entry, shared, of_weights=of_weights, sawb=sawb) for entry in entries]
    widths = [member.grid.bits for member in members]
    if widths != sorted(set(widths)):
        raise ValueError(f"mix [{','.join(entries)}] must go from the lowest bit-width to the highest")
    return members


def _member(entry: str, shared: dict[str, Span], *, of_weights: bool, sawb: Rule) -> Member:
    name, bits = _parsed(entry, ("minmax", "sawb", "bwn", "twn", "fp") if of_weights else ("minmax", "pact", "fp"))
    if name == "fp":
        return Member(Float(bits), Unbounded())
    own = {"bwn": 1, "twn": 2}.get(name)
    if own is not None and bits != own:
        raise ValueError(f"mix entry '{entry}': the grid {name} has {own} bit{'' if own == 1 else 's'}, not {bits}")
    if not 1 <= bits <= WIDEST:
        raise ValueError(f"mix entry '{entry}': the grid {name} has 1 to {WIDEST} bits")
    if name == "bwn":
        return Member(Binary(bits), AbsoluteMean())
    if name == "twn":
        return Member(Ternary(bits), KeptMean())
    return Member(Uniform(bits), SawbClip(bits, sawb) if name == "sawb" else shared[name])


def _parsed(entry: str, names: Sequence[str]) -> tuple[str, int]:
    name, _, bits = entry.partition("@")
    if name not in names or (bits and not bits.isdigit()) or (not bits and name != "fp"):
        raise ValueError(f"mix entry '{entry}' is not GRID@BITS with a grid of {', '.join(names)} (fp needs no bits)")
    return name, int(bits or FLOAT_BITS)
