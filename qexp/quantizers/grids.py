"""Grids: the levels that a bit-width allows from lower to upper, and projection onto them; mixes of them by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from qexp.quantizers.base import FLOAT_BITS, TINY, Bins, IntegerForm
from qexp.quantizers.numerics import Scalar, as_double, at_least, beside, float_copy, scalar, steps_above
from qexp.quantizers.pact import PactRange
from qexp.quantizers.ranges import BinaryRange, MinMaxRange, NoRange, RangeEstimator, RunningMinMaxRange, TernaryRange
from qexp.quantizers.sawb import Rule, SawbRange
from qexp.utils.text import plural

WeightGrid = Literal["minmax", "sawb", "twn", "bwn"]
ActivationGrid = Literal["minmax", "pact"]
WIDEST = 8  # bits; a wider member of a mix is full precision


class ScaledGrid(NamedTuple):
    """A grid scaled to a range: a value has a code 0, 1, ..., and the level code * scale + offset."""

    to_codes: Callable[[Tensor], Tensor]  # float values -> codes as floats, a new tensor
    scale: Scalar
    offset: Scalar

    def to_levels(self, x: Tensor) -> Tensor:
        """Return the level of every value of a float tensor."""
        return self.to_codes(x).mul_(beside(self.scale, x)).add_(beside(self.offset, x))

    def levels(self, count: int, x: Tensor) -> Tensor:
        """Return so many levels in the type of `x`: (count,), or (..., count) with a row for each channel."""
        scale, offset = (_along_levels(beside(value, x)) for value in (self.scale, self.offset))
        return torch.arange(count, device=x.device, dtype=x.dtype) * scale + offset


def _along_levels(value: Scalar) -> Scalar:
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.dim() else value


@dataclass(frozen=True)
class Grid(ABC):
    """Levels from the lower to the upper end of a range; passes no gradient.

    `bits` is the nominal bit-width, which orders the grids of a mix and weighs its attention (DQA, eq. 7).
    """

    bits: int

    numbers: ClassVar[int] = 2  # that one range needs beside its codes: a scale and an offset

    @property
    @abstractmethod
    def levels(self) -> int:
        """How many there are."""

    @abstractmethod
    def _scaled(self, *bounds: Scalar) -> ScaledGrid:
        """Return the grid scaled to what its range estimator returned, as numbers."""

    @abstractmethod
    def _integers(self, *bounds: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """Return factor, shift, scale and offset of `IntegerForm`."""

    @abstractmethod
    def _bins(self, *bounds: Tensor) -> Bins:
        """Return the bins of the grid scaled to what its range estimator returned, in double precision."""

    def scaled(self, bounds: Iterable[Tensor]) -> ScaledGrid:
        """Return the grid scaled to (lower, upper) or (lower, upper, threshold), whose gradients stop here."""
        return self._scaled(*(scalar(bound.detach()) for bound in bounds))

    def integer_form(self, x: Tensor, bounds: Iterable[Tensor]) -> IntegerForm:
        """Return the levels nearest to `x`, a float tensor, as integers and their scale."""
        numbers = [scalar(bound.detach()) for bound in bounds]
        return IntegerForm(self._scaled(*numbers).to_codes(x), *self._integers(*numbers))

    def bins(self, bounds: Iterable[Tensor]) -> Bins:
        """Return where codes change."""
        return self._bins(*(as_double(bound.detach()) for bound in bounds))

    def codes(self, x: Tensor, bounds: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (uint8 codes of the shape of `x`, a float tensor, and the levels they index, a row for each range)."""
        scaled = self.scaled(bounds)
        return scaled.to_codes(x).to(torch.uint8), scaled.levels(self.levels, x)


@dataclass(frozen=True)
class Uniform(Grid):
    """2**bits evenly spaced levels, lower and upper included (DQA, eq. 10 and 11).

    Equation 13 of the paper with the offset that its print lacks: round((x - lower) / step), kept in range.
    """

    @property
    def levels(self) -> int:
        return 2**self.bits

    def _scaled(self, *bounds: Scalar) -> ScaledGrid:
        lower, upper = bounds
        steps = self.levels - 1
        step = at_least(upper - lower, TINY) / steps

        def to_codes(x: Tensor) -> Tensor:
            return steps_above(x, lower, step).round_().clamp_(0, steps)

        return ScaledGrid(to_codes, step, lower)

    def _integers(self, *bounds: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        lower, upper = bounds
        # Odd integers around the middle, whose sums stay small, unless the range begins at 0.
        centered = lower != 0
        steps = self.levels - 1
        scale = at_least(upper - lower, TINY) / (steps * (1 + centered))
        return 1 + centered, -(centered * steps), scale, centered * (lower + upper) / 2

    def _bins(self, *bounds: Tensor) -> Bins:
        lower, upper = bounds
        step = (upper - lower).clamp_min(TINY) / (self.levels - 1)
        return Bins.even(lower, step, self.levels)


@dataclass(frozen=True)
class Binary(Grid):
    """-beta and beta, by sign; zero maps to beta (DQA, eq. 14)."""

    levels = 2
    numbers = 1

    def _scaled(self, *bounds: Scalar) -> ScaledGrid:
        lower, upper = bounds
        return ScaledGrid(lambda x: float_copy(x).ge_(0), 2 * upper, lower)

    def _integers(self, *bounds: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        return 2, -1, bounds[1], 0.0

    def _bins(self, *bounds: Tensor) -> Bins:
        lower, upper = bounds
        return Bins(torch.stack([lower, upper], -1), torch.zeros_like(upper).unsqueeze(-1), upper - lower)


@dataclass(frozen=True)
class Ternary(Grid):
    """-beta and beta, and zero where |x| is not above the threshold (DQA, eq. 15). Counts as 2 bits."""

    levels = 3
    numbers = 1

    def _scaled(self, *bounds: Scalar) -> ScaledGrid:
        lower, upper, threshold = bounds

        def to_codes(x: Tensor) -> Tensor:
            reach = beside(threshold, x)
            within = torch.clamp(x, -reach, reach)  # type: ignore[arg-type]
            return torch.sub(x, within).sign_().add_(1)

        return ScaledGrid(to_codes, upper, lower)

    def _integers(self, *bounds: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        return 1, -1, bounds[1], 0.0

    def _bins(self, *bounds: Tensor) -> Bins:
        lower, upper, threshold = bounds
        centers = torch.stack([lower, torch.zeros_like(upper), upper], -1)
        return Bins(centers, torch.stack([-threshold, threshold], -1), upper)


@dataclass(frozen=True)
class Float(Grid):
    """The tensor itself: full precision as a member of a mix; it has no codes."""

    levels = 0
    numbers = 0

    def _scaled(self, *bounds: Scalar) -> ScaledGrid:
        return ScaledGrid(float_copy, 1.0, 0.0)

    def _integers(self, *bounds: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        raise ValueError("full precision has no codes")

    def _bins(self, *bounds: Tensor) -> Bins:
        raise ValueError("full precision has no codes")

    def codes(self, x: Tensor, bounds: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        raise ValueError("full precision has no codes")


@dataclass(frozen=True)
class Member:
    """One member of a mix: a grid and its range estimator, which members may share."""

    grid: Grid
    range_estimator: RangeEstimator


def usual_mix(grid: str, bits: Sequence[int], *, of_weights: bool) -> tuple[str, ...]:
    """Return the entries of a mix of one grid: `("sawb@2", "sawb@4", "sawb@8")`.

    Above 8 bits an entry is full precision. One-bit weights use BWN whatever the grid; BWN and TWN have one bit-width
    each, so that wider entries beside them are min-max. One-bit inputs keep their two min-max levels: after a ReLU,
    BWN would leave them a single value.
    """

    def name(width: int, is_lowest: bool) -> str:
        if width > WIDEST:
            return "fp"
        if of_weights and width == 1:
            return "bwn"
        return "minmax" if grid in ("bwn", "twn") and not is_lowest else grid

    return tuple(f"{name(width, width == bits[0])}@{width}" for width in bits)


def make_mix(entries: Sequence[str], *, of_weights: bool, sawb: Rule, shape: tuple[int, ...] = ()) -> list[Member]:
    """Return the members that entries such as `minmax@2`, `bwn@1` or `fp` name; `fp` alone counts as 32 bits.

    Args:
        entries: of growing bit-width.
        of_weights: weights have minmax, sawb, bwn and twn; inputs of layers have minmax and pact.
        sawb: how sawb finds its clip.
        shape: of the ranges of weights, where each output channel has one; sawb has a single one always.

    Raises:
        ValueError: an entry that is no grid, or entries that are not in order.
    """
    shared: dict[str, RangeEstimator] = {
        "minmax": MinMaxRange(shape) if of_weights else RunningMinMaxRange(),
        "pact": PactRange(),
        "bwn": BinaryRange(shape),
        "twn": TernaryRange(shape),
    }
    members = [_member(entry, shared, of_weights=of_weights, sawb=sawb) for entry in entries]
    widths = [member.grid.bits for member in members]
    if widths != sorted(set(widths)):
        raise ValueError(f"mix [{','.join(entries)}] must go from the lowest bit-width to the highest")
    return members


def _member(entry: str, shared: dict[str, RangeEstimator], *, of_weights: bool, sawb: Rule) -> Member:
    name, bits = _parsed(entry, ("minmax", "sawb", "bwn", "twn", "fp") if of_weights else ("minmax", "pact", "fp"))
    if name == "fp":
        return Member(Float(bits), NoRange())
    own = {"bwn": 1, "twn": 2}.get(name)
    if own is not None and bits != own:
        raise ValueError(f"mix entry '{entry}': the grid {name} has {plural(own, 'bit')}, not {bits}")
    if not 1 <= bits <= WIDEST:
        raise ValueError(f"mix entry '{entry}': the grid {name} has 1 to {WIDEST} bits")
    grid = {"bwn": Binary, "twn": Ternary}.get(name, Uniform)(bits)
    return Member(grid, SawbRange(bits, sawb) if name == "sawb" else shared[name])


def _parsed(entry: str, names: Sequence[str]) -> tuple[str, int]:
    name, _, bits = entry.partition("@")
    if name not in names or (bits and not bits.isdigit()) or (not bits and name != "fp"):
        raise ValueError(f"mix entry '{entry}' is not GRID@BITS with a grid of {', '.join(names)} (fp needs no bits)")
    return name, int(bits or FLOAT_BITS)
