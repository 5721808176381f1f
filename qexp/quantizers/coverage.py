"""What of a network is quantized, what stays float, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any

from qexp.quantizers.base import FLOAT_BITS
from qexp.utils.text import few, plural


@dataclass(frozen=True)
class LayerCoverage:
    """One convolution or linear layer.

    Attributes:
        name: in the network.
        kind: its class before.
        weights: how many.
        weight_bits: 32 for float, as the next one.
        input_bits: of its inputs.
        reason: why a side of it is float, or has other bits than most.
        also: its other names, where the network holds it at several places; all of them share its quantizers.
    """

    name: str
    kind: str
    weights: int
    weight_bits: int
    input_bits: int
    reason: str = ""
    also: tuple[str, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether both sides are."""
        return self.weight_bits == self.input_bits == FLOAT_BITS

    @property
    def bits(self) -> str:
        """`W2A4`, `float`."""
        return "float" if self.is_float else f"W{self.weight_bits}A{self.input_bits}"


@dataclass(frozen=True)
class Coverage:
    """What `quantize` did.

    Attributes:
        layers: every convolution and linear layer, in the order of `named_modules`.
        others: name of a module -> what it is, for parameters of two dimensions or more outside of such layers; float.
    """

    layers: tuple[LayerCoverage, ...]
    others: Mapping[str, str]

    @property
    def quantized(self) -> tuple[LayerCoverage, ...]:
        """Those of which a side is quantized."""
        return tuple(layer for layer in self.layers if not layer.is_float)

    @property
    def left_float(self) -> tuple[LayerCoverage, ...]:
        """Those that stay float as a whole."""
        return tuple(layer for layer in self.layers if layer.is_float)

    def with_bits(self, bits: Mapping[str, tuple[int, int]]) -> "Coverage":
        """Return the same with other bits: those of each layer that is named, of its weight and its input."""
        pairs = [bits.get(one.name, (one.weight_bits, one.input_bits)) for one in self.layers]
        own = (replace(one, weight_bits=w, input_bits=a) for one, (w, a) in zip(self.layers, pairs, strict=True))
        return replace(self, layers=tuple(own))

    @property
    def mean_bits(self) -> tuple[float, float]:
        """The mean width of quantized weights and that of quantized inputs; what is left float does not count.

        Each weight counts once, so that it is the bits that a stored weight takes. Each layer's input counts once: how
        many values it has hangs on the images. 32 where nothing is quantized.
        """
        weights = [(one.weight_bits, one.weights) for one in self.layers if one.weight_bits != FLOAT_BITS]
        inputs = [(one.input_bits, 1) for one in self.layers if one.input_bits != FLOAT_BITS]
        return _mean(weights), _mean(inputs)

    def line(self) -> str:
        """Return `quantized: 18 of 20 layers W2A2, 99.6 % of their weights; float: conv1 (keep_float first), ...`."""
        if not self.quantized:
            return "quantized: nothing"
        total = sum(layer.weights for layer in self.layers)
        share = sum(layer.weights for layer in self.layers if layer.weight_bits != FLOAT_BITS) / total
        widths = Counter(layer.bits for layer in self.quantized)
        told = ", ".join(f"{count} {bits}" for bits, count in widths.most_common())
        of_all = f"{plural(len(self.layers), 'layer')}, {floor(1000 * share) / 10:.1f} % of their weights"
        left = [f"{layer.name} ({layer.reason})" for layer in self.left_float]
        left += [f"{name or 'the model'} ({what})" for name, what in self.others.items()]
        return f"quantized: {told} of {of_all}" + (f"; float: {few(left, 3)}" if left else "")

    def as_data(self) -> dict[str, Any]:
        """Return the bits of each layer, why some are float, and what else holds weights."""
        return {
            "bits": {layer.name: [layer.weight_bits, layer.input_bits] for layer in self.layers},
            "float": {layer.name: layer.reason for layer in self.left_float},
            "others": dict(self.others),
        }

    def __str__(self) -> str:
        """Return a line for each layer and each other module: name, class, bits, reason."""
        rows = [(one.name or "(model)", one.kind, one.bits, _reason(one)) for one in self.layers]
        rows += [(name or "(model)", "", "float", what) for name, what in self.others.items()]
        if not rows:
            return "no convolution and no linear layer"
        name, kind, bits = (max(len(row[column]) for row in rows) for column in range(3))
        return "\n".join(f"{row[0]:<{name}}  {row[1]:<{kind}}  {row[2]:<{bits}}  {row[3]}".rstrip() for row in rows)


def _mean(counted: Sequence[tuple[int, int]]) -> float:
    """Return the mean of (bits, how often); 32 of none."""
    total = sum(count for _, count in counted)
    return sum(bits * count for bits, count in counted) / total if total else float(FLOAT_BITS)


def _reason(layer: LayerCoverage) -> str:
    shared = [f"also {', '.join(layer.also)}"] if layer.also else []
    return "; ".join([*([layer.reason] if layer.reason else []), *shared])
