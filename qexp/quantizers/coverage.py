"""What of a network is quantized, what stays float, and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
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


def _reason(layer: LayerCoverage) -> str:
    shared = [f"also {', '.join(layer.also)}"] if layer.also else []
    return "; ".join([*([layer.reason] if layer.reason else []), *shared])
