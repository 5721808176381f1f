"""Numbers that belong to the output channels of a weight, instead of to all of it.

They have the dimensions of the weight, with 1 in place of every other dimension: (64, 1, 1, 1) for a convolution with
64 filters, so that a range, a scale or an offset meets its own filter wherever it is subtracted or multiplied. A single
number for the whole tensor has no dimensions. Tables, such as the levels of codes, have one dimension more.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

Granularity = Literal["tensor", "channel"]  # what has a range, and so levels, of its own


def channel_shape(layer: nn.Module, weight: Tensor) -> tuple[int, ...]:
    """Return the shape of one number per output channel of a layer's weight.

    A transposed convolution in groups has one per channel of a group, which its groups share.
    """
    axis = 1 if isinstance(layer, _ConvTransposeNd) else 0
    return tuple(size if place == axis else 1 for place, size in enumerate(weight.shape))


def channel_axis(shape: tuple[int, ...]) -> int:
    """Return which dimension such a shape counts channels along."""
    return max(range(len(shape)), key=lambda place: shape[place])


def other_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the dimensions of a weight that a number of such a shape stands for: where it has size 1."""
    return [place for place, size in enumerate(shape) if size == 1]


def values_at(table: Tensor, index: Tensor) -> Tensor:
    """Return the entries of a table at whole numbers, of their shape.

    Args:
        table: (L,), or (..., L) with a row for each channel.
        index: of the shape of the weight.
    """
    if table.dim() == 1:
        return table[index.long()]
    rows = table.expand(*index.shape, table.shape[-1])
    return torch.take_along_dim(rows, index.long().unsqueeze(-1), -1).squeeze(-1)


def place_among(bounds: Tensor, x: Tensor) -> Tensor:
    """Return for every value of `x` how many of its channel's bounds are below it, as int64.

    Args:
        bounds: rising: (L,), or (..., L) with a row for each channel.
        x: of the shape of the weight.
    """
    if bounds.dim() == 1:
        return torch.bucketize(x, bounds)
    shape = bounds.shape[:-1]
    axis = channel_axis(shape)
    by_channel = x.movedim(axis, 0)
    rows = by_channel.reshape(shape[axis], -1).contiguous()
    found = torch.searchsorted(bounds.reshape(shape[axis], -1).contiguous(), rows)
    return found.view(by_channel.shape).movedim(0, axis)


def table_index(codes: Tensor, table: Tensor) -> Tensor:
    """Return where the entry of every code lies in a flattened table, int64, of the shape of the codes."""
    if table.dim() == 1:
        return codes.long()
    count, shape = table.shape[-1], table.shape[:-1]
    return codes.long() + count * torch.arange(shape.numel(), device=codes.device).view(shape)


def per_output(layer: nn.Module, value: float | Tensor) -> float | Tensor:
    """Return a number as a float, or the numbers of a weight's channels shaped to meet the output of the layer."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return float(value)
    groups = layer.groups if isinstance(layer, _ConvTransposeNd) else 1
    return value.flatten().repeat(groups).view(-1, *[1] * (value.dim() - 2))


def spread(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return a single number under its name, of several the smallest and the largest; each 0-dim."""
    if value.dim() == 0:
        return {name: value}
    return {f"{name}_smallest": value.min(), f"{name}_largest": value.max()}
