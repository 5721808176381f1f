"""The bits that the layers of a finished run have, as its summary tells: where they are learned, or their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from qexp.utils.text import few, is_number, plural

MEANS = ("mean_weight_bits", "mean_activation_bits")  # in summary.json, where layers need not all have the same bits
_FLOAT = 32


@dataclass(frozen=True)
class MeasuredBits:
    """The bits of a network whose layers need not all have the same.

    Attributes:
        means: over the quantized weights, and over the quantized inputs of layers.
        layers: of each layer, weight and input, 32 for float.
        is_partly_float: whether layers are float for another reason than keep_float: 32 bits are what is usual.
    """

    means: tuple[float, float]
    layers: tuple[tuple[int, int], ...] = ()
    is_partly_float: bool = False

    @property
    def sides(self) -> tuple[str, str]:
        """`3.2` and `4` of W3.2A4: the means, with a digit behind the point unless a side has one width throughout."""
        found = [{own[side] for own in self.layers} - {_FLOAT} for side in (0, 1)]
        first, second = (_side(mean, len(own) > 1) for mean, own in zip(self.means, found, strict=True))
        return first, second

    @property
    def label(self) -> str:
        """`W3.2A4`; a `+` says that there are float layers besides."""
        return "W{}A{}".format(*self.sides) + "+" * self.is_partly_float

    def named(self, method: str) -> str:
        """Return `ste W3.2A4`."""
        return f"{method} {self.label}"

    @property
    def line(self) -> str:
        """`3.2 in the mean of weights, 4 of inputs: 12 layers W3A4, 6 layers W4A4, 2 layers float`, the float last."""
        counts = sorted(Counter(self.layers).most_common(), key=lambda own: own[0] == (_FLOAT, _FLOAT))
        told = [f"{plural(count, 'layer')} {_pair(own)}" for own, count in counts]
        return "{} in the mean of weights, {} of inputs: ".format(*self.sides) + few(told, 8)


def _side(mean: float, is_mixed: bool) -> str:
    return f"{mean:.1f}" if is_mixed or mean != round(mean) else f"{mean:.0f}"


def _pair(own: tuple[int, int]) -> str:
    return "float" if own == (_FLOAT, _FLOAT) else f"W{own[0]}A{own[1]}"


def measured_bits(summary: Mapping[str, Any]) -> MeasuredBits | None:
    """Return what a summary tells, None where all layers have the bits of the configuration, or it is damaged."""
    means: list[Any] = [summary.get(name) for name in MEANS]
    if not all(is_number(mean) and 1 <= mean <= _FLOAT for mean in means):
        return None
    usual = [summary.get(name) for name in ("weight_bits", "activation_bits")]
    is_partly_float = any(own == _FLOAT != mean for own, mean in zip(usual, means, strict=True))
    return MeasuredBits((means[0], means[1]), tuple(bits_of_layers(summary).values()), is_partly_float)


def bits_of_layers(summary: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return layer -> the bits of its weight and its input, without what is none."""
    layers = summary.get("layers")
    found = layers.get("bits") if isinstance(layers, Mapping) else None
    pairs = found.items() if isinstance(found, Mapping) else ()
    return {name: (own[0], own[1]) for name, own in pairs if _is_pair(own)}


def _is_pair(own: Any) -> bool:
    return isinstance(own, list) and len(own) == 2 and all(type(bits) is int and 1 <= bits <= _FLOAT for bits in own)


def mean_of(found: Sequence[MeasuredBits]) -> MeasuredBits | None:
    """Return the mean over some runs, None of none."""
    if not found:
        return None
    first, second = (fmean(one.means[side] for one in found) for side in (0, 1))
    layers = tuple(own for one in found for own in one.layers)
    return MeasuredBits((first, second), layers, any(one.is_partly_float for one in found))
