"""Forward passes of hard evaluation, each in the place of a module's own.

IntegerLayer  both sides quantized: whole numbers are multiplied, scales and offsets applied to the sum
DoubleLayer   any other convolution or linear layer of an exact network: whole numbers of a power of two, in double
AffineNorm    batch norm as one product and one sum
Average       the average of all pixels, in double
ScaledSums    the library's order of summation
OwnForward    a layer whose forward is somebody's own
"""

import math
from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from qexp.quantizers.channels import per_output, values_at
from qexp.quantizers.layers import QuantLayer
from qexp.quantizers.numerics import as_float, beside
from qexp.quantizers.sums import (
    FixedPoint,
    double_convolution,
    fixed_point_bits,
    integer_sums,
    unfolded_size,
    window_totals,
)

MOST_VALUES = 2**18  # in double precision at once, of images taken apart into windows: 2 MB, which stay in the cache

_Layer: TypeAlias = nn.Conv2d | nn.Linear | QuantLayer


def _weight(layer: _Layer, codes: Tensor | None) -> Tensor:
    """Return the weight of a layer, quantized, without its output scale."""
    quantizer = layer.weight_quantizer if isinstance(layer, QuantLayer) else None
    if quantizer is None:
        return layer.weight
    own, levels = quantizer.codes(layer.weight)
    return values_at(levels, own if codes is None else codes).to(layer.weight.dtype)


def _scale(layer: nn.Module) -> float:
    beta = layer.output_scale if isinstance(layer, QuantLayer) else None
    return 1.0 if beta is None else abs(beta.item())


def _with_bias(layer: _Layer, total: Tensor) -> Tensor:
    """Return total + bias, in place."""
    if layer.bias is None:
        return total
    places = 0 if isinstance(layer, nn.Linear) else layer.weight.dim() - 2
    return total.add_(layer.bias.view(-1, *[1] * places))


def _dimensions(layer: _Layer) -> int:
    """Return the dimensions of a batch; what has fewer is taken for a single input."""
    return 2 if isinstance(layer, nn.Linear) else layer.weight.dim()


class Form(ABC):
    """What takes the place of a module's `forward`."""

    dimensions = 0  # of a batch; an input with fewer is taken for a single one

    @abstractmethod
    def batch(self, x: Tensor) -> Tensor:
        """Return the output for a batch."""

    def __call__(self, input: Tensor, *rest: Any, **named: Any) -> Tensor:
        if rest or named:
            return self.otherwise(input, *rest, **named)
        return self.batch(input) if input.dim() >= self.dimensions else self.batch(input[None])[0]

    def otherwise(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Return the output for a call with more than a batch, such as the size of a transposed convolution's."""
        raise TypeError(f"takes one argument, not {1 + len(rest) + len(named)}")


class OwnForward(Form):
    """A layer whose forward is somebody's own, or has arguments of its own: as it is, its weight quantized once."""

    def __init__(self, layer: QuantLayer, codes: Tensor | None):
        self.layer, self.weight = layer, _weight(layer, codes) * _scale(layer)

    def batch(self, x: Tensor) -> Tensor:
        return self.otherwise(x)

    def otherwise(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        x = x if self.layer.input_quantizer is None else self.layer.input_quantizer(x)
        return self.layer.apply_operation(x, self.weight, self.layer.bias, *rest, **named)


class ScaledSums(Form):
    """A layer in the library's order of summation, whose output scale is applied to the sum."""

    def __init__(self, layer: QuantLayer, codes: Tensor | None):
        self.layer, self.weight, self.scale = layer, _weight(layer, codes), _scale(layer)
        self.dimensions, self.codes = _dimensions(layer), codes

    def otherwise(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return OwnForward(self.layer, self.codes).otherwise(x, *rest, **named)

    def batch(self, x: Tensor) -> Tensor:
        x = x if self.layer.input_quantizer is None else self.layer.input_quantizer(x)
        total = self.layer.apply_operation(x, self.weight, None)
        return _with_bias(self.layer, total if self.layer.output_scale is None else total.mul_(self.scale))


class Average(Form):
    """The average over all pixels, in double precision."""

    def batch(self, x: Tensor) -> Tensor:
        return x.double().mean((-2, -1), keepdim=True).to(x.dtype)


class IntegerLayer(Form):
    """A layer as sums of whole numbers.

    With x = a p + q and w = b r + s, of whole numbers a and b, the sum of x w over a window is
    p r sum(a b) + p s sum(a) + q r sum(b) + q s (values in the window), where padding is no value. r and s may differ
    from filter to filter.
    """

    def __init__(self, layer: QuantLayer, codes: Tensor | None):
        assert layer.weight_quantizer is not None
        assert layer.input_quantizer is not None
        form = layer.weight_quantizer.integer_form(as_float(layer.weight))
        if codes is not None:
            form.codes.copy_(codes)
        self.layer: Any = layer
        self.quantizer, self.scale = layer.input_quantizer, _scale(layer)
        self.dimensions, self.codes = _dimensions(layer), codes
        self.weight, self.weight_scale = form.integers(), per_output(layer, form.scale)
        self.weight_offset = per_output(layer, form.offset)
        filters = self.weight.transpose(0, 1) if isinstance(layer, _ConvTransposeNd) else self.weight
        self.weight_sum = int(filters.abs().flatten(1).sum(1).max())
        self.largest = 2**self.quantizer.bits - 1

    def otherwise(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return OwnForward(self.layer, self.codes).otherwise(x, *rest, **named)

    def batch(self, x: Tensor) -> Tensor:
        form = self.quantizer.integer_form(as_float(x))
        scale, offset = form.scale * self.scale, form.offset
        integers = form.integers()
        total = self._sums(integers)
        total.mul_(beside(scale * self.weight_scale, total))
        if isinstance(self.weight_offset, Tensor) or self.weight_offset != 0:
            total.add_(self._window_sums(integers) * beside(scale * self.weight_offset, total))
        if isinstance(offset, Tensor) or offset != 0:
            ones = integers.new_ones(1, *integers.shape[1:])
            of_weights = self._sums(ones)
            of_weights.mul_(beside(self.weight_scale, ones))
            of_ones = self._window_sums(ones) * beside(self.weight_offset, ones)
            total.add_(of_weights.add_(of_ones).mul_(offset * self.scale))
        return _with_bias(self.layer, total.to(x.dtype))

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type != "cuda":
            return self.layer.apply_operation(x, weight, None)
        # Whole numbers up to 2,048 are values of TF32, whose sums are in single precision: exact, and several times
        # faster. Without it cuDNN may go by Winograd transforms, whose errors, below a half, are rounded off.
        now = torch.backends.cudnn
        kept = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
        with now.flags(**kept, allow_tf32=True):
            return self.layer.apply_operation(x, weight, None).round_()

    def _sums(self, x: Tensor) -> Tensor:
        return integer_sums(self._product, x, self.weight, largest=self.largest, weight_sum=self.weight_sum)

    def _window_sums(self, x: Tensor) -> Tensor:
        """Return the sums of all that a weight is multiplied with; one channel is enough where all see the same."""
        if isinstance(self.layer, nn.Linear):
            return x.sum(-1, keepdim=True)
        if not isinstance(self.layer, nn.Conv2d) or self.layer.groups > 1:
            return self._product(x, torch.ones_like(self.weight))
        rows = x.permute(0, 2, 3, 1)  # a product is the fastest sum over the channels of a channels_last tensor
        by_pixel = (rows @ x.new_ones(x.shape[1])).unsqueeze(1)
        return window_totals(self.layer, by_pixel, pooled=x.device.type == "cuda")


class DoubleLayer(Form):
    """A layer whose factors are rounded to whole numbers of a power of two, and multiplied in double precision."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, codes: Tensor | None):
        self.layer, self.scale = layer, _scale(layer)
        self.dimensions = _dimensions(layer)
        self.quantizer = layer.input_quantizer if isinstance(layer, QuantLayer) else None
        self._take(_weight(layer, codes))

    def _take(self, weight: Tensor) -> None:
        self.bits = fixed_point_bits(weight[0].numel())
        self.weight = FixedPoint.of(weight, self.bits)  # each filter by its own power of two
        self.unit = self.weight.unit.view(-1, 1, 1) if isinstance(self.layer, nn.Conv2d) else self.weight.unit.flatten()

    def batch(self, x: Tensor) -> Tensor:
        if "weight" not in self.layer._parameters:
            self._take(self.layer.weight)  # which a hook, such as that of torch's weight_norm, has just made
        x = x if self.quantizer is None else self.quantizer(x)
        values = self.weight.integers[0].numel()
        if isinstance(self.layer, nn.Conv2d):
            values *= math.prod(unfolded_size(self.layer, x))
        return torch.cat([self._part(images) for images in x.split(max(1, MOST_VALUES // values))])

    def _part(self, x: Tensor) -> Tensor:
        values = FixedPoint.of(x, self.bits)
        if isinstance(self.layer, nn.Conv2d):
            total = double_convolution(self.layer, values.integers, self.weight.integers)
        else:
            total = nn.functional.linear(values.integers, self.weight.integers)
        total.mul_(self.scale / (values.unit * self.unit))
        return _with_bias(self.layer, total).to(x.dtype)


class AffineNorm(Form):
    """Batch normalization of evaluation as a product and a sum, in this order."""

    def __init__(self, norm: _BatchNorm):
        self.norm = norm

    def batch(self, x: Tensor) -> Tensor:
        norm = self.norm
        if norm.training:  # its statistics are being estimated again
            return type(norm).forward(norm, x)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        shift = shift if norm.bias is None else shift + norm.bias.double()
        shape = (-1, *[1] * (x.dim() - 2))
        return (x * scale.to(x.dtype).view(shape)).add_(shift.to(x.dtype).view(shape))
