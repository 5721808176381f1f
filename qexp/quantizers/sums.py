"""Sums that do not depend on their order: of whole numbers.

A float has 24 bits of its own in single and 53 in double precision: sums of whole numbers below 2**24 and 2**53 are
exact, whatever their order, hence for every number of threads, size of batch, library and device.
"""

from collections.abc import Callable, Sequence
from math import floor, log2
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SINGLE, DOUBLE = 24, 53  # bits of a sum

Operation = Callable[[Tensor, Tensor], Tensor]  # (inputs, weight) -> sums of their products


def integer_sums(operation: Operation, x: Tensor, weight: Tensor, *, largest: int, weight_sum: int) -> Tensor:
    """Return operation(x, weight) for whole numbers, in the type of `x`; rounded where a sum is beyond 24 bits.

    Where sums of products could be too large, x is taken apart into digits, each of which is multiplied by itself.

    Args:
        operation: linear in its inputs, such as a convolution.
        x: whole numbers as floats.
        weight: the same.
        largest: the largest |x| that there can be.
        weight_sum: the largest sum of |weight| over the products of one output.
    """
    limit = 2**SINGLE // max(weight_sum, 1)
    if limit < 1:
        return operation(x.double(), weight.double()).to(x.dtype)
    base, digits = 2 ** floor(log2(limit + 1)), []
    while largest > limit:
        rest = x.div(base).floor_()
        digits.append(x - rest * base)
        x, largest = rest, -(-largest // base)
    total = operation(x, weight)
    for digit in reversed(digits):
        total = total.mul_(base).add_(operation(digit, weight))
    return total


class FixedPoint(NamedTuple):
    """Whole numbers (in double precision) and the power of two that was multiplied to get them."""

    integers: Tensor
    unit: Tensor

    @classmethod
    def of(cls, x: Tensor, bits: int) -> "FixedPoint":
        """Return x times powers of two, rounded to whole numbers of at most `bits` bits.

        Args:
            x: (N, ...): N images, or filters, each of which has a power of its own and does not hang on the others.
            bits: of the largest |x| of each.
        """
        size = x.abs().flatten(1).amax(1).view(-1, *[1] * (x.dim() - 1))
        exponent = torch.frexp(size).exponent
        unit = ((bits - exponent + 1023).long() << 52).view(torch.float64)  # 2 ** (bits - exponent), all bits right
        return cls(x.double().mul_(unit).round_(), unit)


def fixed_point_bits(terms: int) -> int:
    """Return how many bits two factors may have each for exact sums of so many products in double precision."""
    return int((DOUBLE - log2(terms)) / 2)


def unfolded_size(layer: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Return height and width of the output of a convolution."""
    found = []
    for axis in (0, 1):
        around = sum(layer._reversed_padding_repeated_twice[2 - 2 * axis : 4 - 2 * axis])
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        found.append((x.shape[2 + axis] + around - reach) // layer.stride[axis] + 1)
    return found[0], found[1]


def double_convolution(layer: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution (N, K, H', W') of `layer` for double tensors, without bias, by a matrix product.

    torch's own is slow on the CPU, and cuDNN's may go by Fourier or Winograd transforms, which are not exact.
    """
    size = unfolded_size(layer, x)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode).permute(0, 2, 3, 1).contiguous()
    if layer.groups == 1:
        return _unfolded_product(layer, x, weight, size).permute(0, 3, 1, 2)
    if weight.shape[:2] == (x.shape[3], 1):
        return _by_channel(layer, x, weight, size).permute(0, 3, 1, 2)
    pairs = zip(x.chunk(layer.groups, 3), weight.chunk(layer.groups), strict=True)
    parts = [_unfolded_product(layer, own.contiguous(), filters, size) for own, filters in pairs]
    return torch.cat(parts, 3).permute(0, 3, 1, 2)


def _unfolded_product(layer: nn.Conv2d, x: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the convolution (N, H', W', K) of padded images (N, H, W, C), all windows at once."""
    image, row, column, channel = x.stride()
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    strides = (image, row * sh, column * sw, row * dh, column * dw, channel)
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
    windows = x.as_strided((len(x), *size, kh, kw, x.shape[3]), strides).reshape(-1, len(matrix))
    return (windows @ matrix).view(len(x), *size, weight.shape[0])


def _by_channel(layer: nn.Conv2d, x: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the same where each channel has one filter of its own, one place of the windows after the other."""
    (kh, kw), (sh, sw), (dh, dw), (height, width) = layer.kernel_size, layer.stride, layer.dilation, size
    total = x.new_zeros(len(x), height, width, x.shape[3])
    for row in range(kh):
        for column in range(kw):
            rows = slice(row * dh, row * dh + (height - 1) * sh + 1, sh)
            columns = slice(column * dw, column * dw + (width - 1) * sw + 1, sw)
            total += x[:, rows, columns] * weight[:, 0, row, column]
    return total


def window_totals(layer: nn.Conv2d, x: Tensor, *, pooled: bool) -> Tensor:
    """Return the sums (N, 1, H', W') of one channel of whole numbers (N, 1, H, W) over the windows of a convolution.

    Args:
        layer: for its geometry.
        x: the channel.
        pooled: by a pooling where the layer allows it; cuDNN has no fast convolution of a single channel.
    """
    padding, is_plain = layer.padding, layer.padding_mode == "zeros" and layer.dilation == (1, 1)
    if pooled and is_plain and not isinstance(padding, str) and _may_be_pooled(padding, layer.kernel_size):
        return F.avg_pool2d(x, layer.kernel_size, layer.stride, padding, divisor_override=1)
    kernel = x.new_ones(1, 1, *layer.kernel_size)
    return layer._conv_forward(x, kernel, None)


def _may_be_pooled(padding: Sequence[int], kernel: Sequence[int]) -> bool:
    return all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True))
