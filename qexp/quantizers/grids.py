"""Grids: the levels that a bit-width allows between two ends, and projection onto them; mixes of them by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qexp.quantizers.base import FLOAT_BITS, TINY
from qexp.quantizers.blocks import Scalar, at_least, float_copy, scalar
from qexp.quantizers.pact import LearnedClip
from qexp.quantizers.ranges import AbsoluteMean, KeptMean, RunningRange, Span, TensorRange, Unbounded
from qexp.quantizers.sawb import Rule, SawbClip

WeightGrid = Literal["minmax", "sawb", "twn", "bwn"]
ActivationGrid = Literal["minmax", "pact"]
WIDEST = 8  # bits; a wider member of a mix is full precision


class Placed(NamedTuple):
    """A grid between two ends: a value has a code 0, 1, ..., and the level code * scale + offset."""

    to_codes: Callable[[Tensor, Tensor | None], Tensor]  # (float values, `out` or None) -> codes as floats
    scale: Scalar
    offset: Scalar

    def to_levels(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the level of every value of a float tensor, in `out` or a new tensor."""
        return self.to_codes(x, out).mul_(self.scale).add_(self.offset)


@dataclass(frozen=True)
class Grid(ABC):
    """The levels that a span's ends allow; passes no gradient.

    `bits` is the nominal bit-width, which orders the grids of a mix and weighs its attention (DQA, eq. 7).
    """

    bits: int

    @property
    @abstractmethod
    def levels(self) -> int:
        """How many there are."""

    @abstractmethod
    def between(self, *ends: Scalar) -> Placed:
        """Return the grid between the ends that its span returns, as numbers."""

    def placed(self, ends: Iterable[Tensor]) -> Placed:
        """Return the grid between ends that may have a gradient, which does not pass."""
        return self.between(*(scalar(end.detach()) for end in ends))

    def codes(self, x: Tensor, ends: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (uint8 codes of the shape of `x`, a float tensor, and the levels they index)."""
        placed = self.placed(ends)
        levels = torch.arange(self.levels, device=x.device, dtype=x.dtype) * placed.scale + placed.offset
        return placed.to_codes(x, None).to(torch.uint8), levels


@dataclass(frozen=True)
class Uniform(Grid):
    """2**bits evenly spaced levels, both ends included (DQA, eq. 10 and 11).

    Equation 13 of the paper with the offset that its print lacks: round((x - lower) / step), kept in range.
    """

    @property
    def levels(self) -> int:
        return 2**self.bits

    def between(self, *ends: Scalar) -> Placed:
        lower, upper = ends
        steps = self.levels - 1
        step = at_least(upper - lower, TINY) / steps

        def to_codes(x: Tensor, out: Tensor | None) -> Tensor:
            return torch.sub(x, lower, out=out).div_(step).round_().clamp_(0, steps)

        return Placed(to_codes, step, lower)


@dataclass(frozen=True)
class Binary(Grid):
    """The two ends, -beta and beta, by sign; zero maps to the upper one (DQA, eq. 14)."""

    levels = 2

    def between(self, *ends: Scalar) -> Placed:
        lower, upper = ends
        return Placed(lambda x, out: float_copy(x, out).ge_(0), 2 * upper, lower)


@dataclass(frozen=True)
class Ternary(Grid):
    """The two ends, -beta and beta, and zero where |x| is not above the threshold (DQA, eq. 15). Counts as 2 bits."""

    levels = 3

    def between(self, *ends: Scalar) -> Placed:
        lower, upper, threshold = ends

        def to_codes(x: Tensor, out: Tensor | None) -> Tensor:
            within = torch.clamp(x, -threshold, threshold, out=out)  # type: ignore[arg-type]
            return torch.sub(x, within, out=out).sign_().add_(1)

        return Placed(to_codes, upper, lower)


@dataclass(frozen=True)
class Float(Grid):
    """The tensor itself: full precision as a member of a mix; it has no codes."""

    levels = 0

    def between(self, *ends: Scalar) -> Placed:
        return Placed(float_copy, 1.0, 0.0)

    def codes(self, x: Tensor, ends: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
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
