"""Precision, single numbers, memory layout and statistics: what quantizers compute with.

Single numbers are in double precision, and rounded once where they meet a tensor: the code of a value near a threshold
hangs on their last bit, and must not hang on the number of threads or the device (docs/design.md). They are floats on
the CPU, where an operation on a 0-dim tensor costs as much as one on 30,000 values. They are 0-dim tensors on other
devices, where reading one would wait for the device, and while torch.compile traces. Where each output channel of a
weight has a number of its own they are a tensor everywhere, see `qexp.quantizers.channels`: `shape` below is its shape,
() for a single number.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from qexp.quantizers.channels import other_axes

Scalar = float | Tensor
PIECE = 2**15  # values for each thread, the least that torch gives one: 128 KB, of which a core's cache holds several


def precision(x: Tensor) -> torch.dtype:
    """Return the type to compute in: single precision at least, as bf16 arithmetic moves values to other levels."""
    return x.dtype if x.dtype == torch.float64 else torch.float32


def as_float(x: Tensor) -> Tensor:
    """Return `x` in at least single precision."""
    return x.to(precision(x))


def as_double(x: Tensor) -> Tensor:
    """Return `x` in double precision; in single on MPS, which has no doubles."""
    return as_float(x) if x.device.type == "mps" else x.double()


def _double_copy(x: Tensor) -> Tensor:
    """Return a copy of `x` in the precision of `as_double`, to work on in place."""
    return float_copy(x) if x.device.type == "mps" else x.to(torch.float64, copy=True)


def float_copy(x: Tensor) -> Tensor:
    """Return a copy of `x` in at least single precision, to work on in place."""
    return x.to(precision(x), copy=True)


def as_output(value: Tensor, like: Tensor) -> Tensor:
    """Return what an autograd function worked out in place, in the type of `like`.

    While torch.compile traces, a copy, which it fuses away: torch 2.11 gives no gradient to what was changed in place.
    """
    return value.to(like.dtype, copy=torch.compiler.is_compiling())


# Single numbers, and numbers of channels


def _is_read(x: Tensor) -> bool:
    """Whether the single numbers of `x` are floats."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def scalar(x: Tensor) -> Scalar:
    """Return a 0-dim tensor as a single number; numbers of channels stay a tensor."""
    return x.item() if x.dim() == 0 and _is_read(x) else as_double(x)


def beside(value: Scalar, x: Tensor) -> Scalar:
    """Return a number as it is rounded where it meets a tensor: numbers of channels in the type of `x`.

    A single number is rounded by the operation itself; a tensor of doubles would make it one in double precision.
    """
    return value.to(x.dtype) if isinstance(value, Tensor) and value.dim() else value


def scalars(x: Tensor) -> Sequence[Scalar]:
    """Return the numbers in a 1-dim tensor."""
    return x.tolist() if _is_read(x) else as_double(x).unbind()


def as_tensor(value: Scalar, like: Tensor) -> Tensor:
    """Return a number as a 0-dim tensor of the type of `like`."""
    return value.to(like.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype)


def at_least(value: Scalar, lowest: float) -> Scalar:
    """Return the greater of the two; NaN stays NaN."""
    return value.clamp_min(lowest) if isinstance(value, Tensor) else max(value, lowest)


def clamp_(x: Tensor, lowest: Scalar, highest: Scalar) -> Tensor:
    """Return clamp(x, lowest, highest), in place of `x`; the ends are two numbers or two 0-dim tensors."""
    return x.clamp_(lowest, highest)  # type: ignore[arg-type]


def add_product_(x: Tensor, y: Tensor, factor: Scalar) -> Tensor:
    """Return x + y * factor, in place of `x`."""
    return x.addcmul_(y, beside(factor, x)) if isinstance(factor, Tensor) else x.add_(y, alpha=factor)  # type: ignore[arg-type]


def steps_above(x: Tensor, lower: Scalar, step: Scalar) -> Tensor:
    """Return (x - lower) / step, two operations that are rounded one by one; one where `lower` is known to be 0."""
    if not isinstance(lower, Tensor) and lower == 0:
        return torch.div(x, beside(step, x))
    return torch.sub(x, beside(lower, x)).div_(beside(step, x))


# Memory layout: on the CPU a reduction over a channels_last tensor is up to seven times slower than over one row.


def dense(x: Tensor) -> Tensor:
    """Return `x`, or on the CPU a contiguous copy if it is neither contiguous nor channels_last."""
    if not _is_read(x) or x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def laid_out_as(x: Tensor, like: Tensor) -> Tensor:
    """Return `x`, or on the CPU a copy with the strides of `like`, a dense tensor of its shape."""
    return x if not _is_read(x) or x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def _row(x: Tensor) -> Tensor:
    """Return the values of a dense tensor as one row in memory order; elsewhere than on the CPU the tensor itself."""
    return x.as_strided((x.numel(),), (1,)) if _is_read(x) else x


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield dense tensors of one layout piece by piece, as views: what is worked out of a piece stays in the cache.

    Elsewhere than on the CPU, and while torch.compile traces, there is one piece: the tensors themselves.
    """
    if not _is_read(tensors[0]):
        yield tensors
        return
    size = PIECE * torch.get_num_threads()
    yield from zip(*(_row(tensor).split(size) for tensor in tensors), strict=True)


def total(x: Tensor, shape: tuple[int, ...] = ()) -> Scalar:
    """Return the sum of a dense tensor."""
    return x.sum(other_axes(shape), keepdim=True) if shape else scalar(_row(x).sum())


def dot(a: Tensor, b: Tensor, shape: tuple[int, ...] = ()) -> Scalar:
    """Return the sum of the products of two dense tensors of one shape and layout."""
    if shape:
        return total(a * b, shape)
    return torch.dot(_row(a), _row(b)).item() if _is_read(a) else (a * b).sum()


# Statistics


@torch.no_grad()
def value_range(x: Tensor, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Return (smallest, largest) value, of `shape`, in at least single precision: exact in any order."""
    if shape:
        return as_float(x.amin(other_axes(shape), keepdim=True)), as_float(x.amax(other_axes(shape), keepdim=True))
    lower, upper = torch.aminmax(_row(dense(x)))
    return as_float(lower), as_float(upper)


@torch.no_grad()
def mean_and_std(x: Tensor) -> tuple[Scalar, Scalar]:
    """Return mean and unbiased standard deviation; a single value has a deviation of 0."""
    values = _double_copy(_row(dense(x)))
    mean = scalar(values.sum()) / values.numel()
    centered = values.sub_(mean)
    variance = dot(centered, centered) / max(values.numel() - 1, 1)
    return mean, variance**0.5


@torch.no_grad()
def absolute_mean(x: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Return mean|x|, of `shape`, in double precision."""
    if shape:
        return _double_copy(x).abs_().mean(other_axes(shape), keepdim=True)
    return _double_copy(_row(dense(x))).abs_().mean()


@torch.no_grad()
def mean_above(x: Tensor, threshold: Scalar, shape: tuple[int, ...] = ()) -> Tensor:
    """Return the mean of those |x| that exceed `threshold`, of `shape`, in double precision; 0 where none does."""
    if shape:
        size, axes = as_float(x).abs(), other_axes(shape)
        above = as_double(size.gt(beside(threshold, size)))
        return as_double(size).mul_(above).sum(axes, keepdim=True) / above.sum(axes, keepdim=True).clamp_min(1)
    size = as_float(_row(dense(x))).abs()
    above = float_copy(size).gt_(threshold)  # 1 or 0
    kept = as_double(size.mul_(above)).sum()
    return kept / as_double(above).sum().clamp_min(1)
