"""Elementwise work on large tensors, in pieces that stay in the processor's cache, and the sums that come with it.

A chain of in-place operations over a feature map reads and writes memory once per operation; over pieces it does so
once per chain. Pieces are views in memory order, so that channels_last tensors are not copied. On other devices, and
while torch.compile traces (which fuses the chain itself), there is one piece: the whole tensor.

Single numbers are floats on the CPU, where an operation on a 0-dim tensor costs as much as one on 30,000 values, and
0-dim tensors elsewhere, where reading one would wait for the device.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

BLOCK = 262144  # elements per piece and thread; docs/PERFORMANCE.md has the times of other sizes
FLOATS = (torch.float32, torch.float64)
Scalar = float | Tensor


def _is_cut(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def in_blocks(*tensors: Tensor, scratch: int = 0) -> Iterator[tuple]:
    """Yield matching pieces of tensors that `dense` and `laid_out_as` have given one shape and layout.

    Args:
        tensors: the pieces are views of these, so that what is written into one stays.
        scratch: how many buffers of at least single precision to add, for the `out` of an operation; they are None
            where there is one piece, so that the operation makes a new tensor.
    """
    x = tensors[0]
    if not _is_cut(x):
        yield (*tensors, *(None for _ in range(scratch)))
        return
    count, size = x.numel(), BLOCK * torch.get_num_threads()
    flat = [tensor.as_strided((count,), (1,)) for tensor in tensors]
    buffers = [torch.empty(min(size, count), dtype=_precision(x)) for _ in range(scratch)]
    if count <= size:
        yield (*flat, *buffers)
        return
    for begin in range(0, count, size):
        end = min(begin + size, count)
        yield (*(tensor[begin:end] for tensor in flat), *(buffer[: end - begin] for buffer in buffers))


def dense(x: Tensor) -> Tensor:
    """Return `x`, or a contiguous copy of it if its elements may overlap in memory or leave gaps."""
    if not _is_cut(x) or x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def laid_out_as(x: Tensor, model: Tensor) -> Tensor:
    """Return `x`, or a copy of it if its strides are not those of `model`, a dense tensor of its shape."""
    return x if not _is_cut(x) or x.stride() == model.stride() else torch.empty_like(model, dtype=x.dtype).copy_(x)


def mapped(x: Tensor, function: Callable[..., Tensor], scratch: int = 0) -> Tensor:
    """Return the elementwise `function` of `x`, a dense tensor, in the shape, layout and type of `x`.

    Args:
        x: any shape.
        function: of float values, the `out` of its result, and `scratch` buffers, all but the first of which may be
            None; it leaves the values alone.
        scratch: see above.
    """
    if not _is_cut(x):
        return function(as_float(x), None, *(None for _ in range(scratch))).to(x.dtype)
    out = torch.empty_like(x)
    for source, target, *buffers in in_blocks(x, out, scratch=scratch):
        if x.dtype in FLOATS:
            function(source, target, *buffers)
        else:
            target.copy_(function(source.float(), None, *buffers))
    return out


def _precision(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype in FLOATS else torch.float32


def as_float(x: Tensor) -> Tensor:
    """Return `x` in at least single precision: bf16 arithmetic moves values to other levels."""
    return x if x.dtype in FLOATS else x.float()


def float_copy(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the values of `x` in `out`, or in a new tensor of at least single precision, to work on in place."""
    return x.to(_precision(x), copy=True) if out is None else out.copy_(x)


def scalar(x: Tensor) -> Scalar:
    """Return a 0-dim tensor as a single number."""
    return x.item() if _is_cut(x) else x


def scalars(x: Tensor) -> Sequence[Scalar]:
    """Return the numbers in a 1-dim tensor."""
    return x.tolist() if _is_cut(x) else x.unbind()


def as_tensor(value: Scalar, like: Tensor) -> Tensor:
    """Return a number as a 0-dim tensor of the type of `like`."""
    return value.to(like.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype)


def at_least(value: Scalar, lowest: float) -> Scalar:
    """Return the greater of the two; NaN stays NaN."""
    return value.clamp_min(lowest) if isinstance(value, Tensor) else max(value, lowest)


def add_product_(x: Tensor, y: Tensor, factor: Scalar) -> Tensor:
    """Return x + y * factor, in place of `x`."""
    return x.addcmul_(y, factor) if isinstance(factor, Tensor) else x.add_(y, alpha=factor)


def total(x: Tensor) -> Scalar:
    """Return the sum of a piece."""
    return scalar(x.sum())


def dot(a: Tensor, b: Tensor) -> Scalar:
    """Return the sum of the products of two pieces."""
    return torch.dot(a, b).item() if _is_cut(a) else (a * b).sum()


@torch.no_grad()
def value_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (smallest, largest) value, 0-dim, in at least single precision."""
    x = dense(x)
    lower, upper = torch.aminmax(x.as_strided((x.numel(),), (1,)) if _is_cut(x) else x)
    return as_float(lower), as_float(upper)


@torch.no_grad()
def mean_and_std(x: Tensor) -> tuple[Scalar, Scalar]:
    """Return mean and unbiased standard deviation in one pass; a single value has a deviation of 0."""
    count = 0
    mean: Scalar = 0.0
    squares: Scalar = 0.0
    for piece, centered in in_blocks(dense(x), scratch=1):
        value, size = as_float(piece), piece.numel()
        own = total(value) / size
        centered = torch.sub(value, own, out=centered)
        # Chan, Golub and LeVeque 1979: squares within the pieces, and between them.
        count, step = count + size, own - mean
        squares = squares + dot(centered, centered) + step * step * (size * (count - size) / count)
        mean = mean + step * (size / count)
    variance = squares / max(count - 1, 1)
    return mean, variance**0.5


@torch.no_grad()
def absolute_mean(x: Tensor) -> Tensor:
    """Return mean|x|, 0-dim."""
    x = dense(x)
    whole = sum(total(torch.abs(as_float(piece), out=size)) for piece, size in in_blocks(x, scratch=1))
    return as_tensor(whole / x.numel(), as_float(x[:0]))


@torch.no_grad()
def mean_above(x: Tensor, threshold: Scalar) -> Tensor:
    """Return the mean of those |x| that exceed `threshold`, 0-dim; 0 where none does."""
    whole: Scalar = 0.0
    count: Scalar = 0.0
    for piece, size, kept in in_blocks(dense(x), scratch=2):
        size = torch.abs(as_float(piece), out=size)
        kept = float_copy(size, kept).gt_(threshold)
        whole, count = whole + dot(size, kept), count + total(kept)
    return as_tensor(whole / at_least(count, 1.0), as_float(x[:0]))
