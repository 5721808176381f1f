"""The random numbers of a quantizer, as a pure function of where training stands.

A method that is random draws from a stream of its own and never from torch's generators: the numbers depend on the seed
of the run, the name of the layer, the side (weight or input), the step and the part of the batch, and on nothing else.
So a run that is resumed sees the numbers that it would have seen anyway, a backward pass that quantizes again sees
those of its forward pass, and neither the order of layers nor workers change them. To draw twice gives the same numbers
twice. On the CPU and on CUDA they are others, as torch's are.
"""

import hashlib
import operator

import torch
from torch import Tensor

SMALLEST = 2.0**-26  # of uniform numbers, whose logarithm is finite; 1 is excluded


def whole(number: int) -> int:
    """Return a whole number of any type, such as NumPy's, as an int: equal ones are the same; TypeError for others."""
    return int(operator.index(number))


class Noise:
    """The stream of one quantizer; it has no state that a checkpoint would need.

    Attributes:
        key: 0-dim int64 on the CPU: all that the numbers depend on. A tensor, changed in place, because torch.compile
            would compile anew for every other number. Keep a copy (`key.clone()`) for a backward pass.
    """

    def __init__(self) -> None:
        self.key = torch.zeros((), dtype=torch.int64, device="cpu")
        self._place: tuple[object, ...] = ()
        self.step = 0
        self._set(0)

    def begin(self, seed: int, layer: str, side: str) -> None:
        """Say where the quantizer is: the seed of the run, the name of its layer, `weight` or `input`."""
        self._place = (whole(seed), layer, side)
        self._set(0)

    def go_to(self, step: int) -> None:
        """Move to the first part of a step."""
        self.step = whole(step)
        self._set(0)

    def go_to_part(self, part: int) -> None:
        """Move to a part of the batch, counted from 0."""
        self._set(part)

    def _set(self, part: int) -> None:
        text = repr((*self._place, self.step, whole(part))).encode()
        self.key.fill_(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1)

    def uniform(self, count: int, like: Tensor) -> Tensor:
        """Return so many numbers between 0 and 1, both excluded, in at least single precision: (count,)."""
        return draw(self.key, like.new_empty(count, dtype=_drawn_type(like)), 1, False).squeeze(0)

    def exponential(self, planes: int, like: Tensor) -> Tensor:
        """Return exponential numbers with mean 1, (planes, *like.shape), in the memory layout of `like`.

        They are in at least single precision. The negative logarithm of one is a number of the standard Gumbel
        distribution.
        """
        return draw(self.key, like.detach().to(_drawn_type(like)), planes, True)


def _drawn_type(like: Tensor) -> torch.dtype:
    """Return single or double precision: in half SMALLEST is 0."""
    return torch.promote_types(like.dtype, torch.float32)


@torch.library.custom_op("qexp::draw", mutates_args=())
def draw(key: Tensor, like: Tensor, planes: int, exponential: bool) -> Tensor:
    """Return random numbers, (planes, *like.shape) in the type of `like`, exponential or uniform, for a key.

    An operation of torch's, because torch.compile takes no generator: it keeps it as it is. The numbers belong to the
    places of a tensor and not to its memory: four dimensions are drawn with the channels last, any others in order.

    Args:
        key: 0-dim int64, on the CPU.
        like: any shape, single or double precision.
        planes: how many numbers for each value.
        exponential: else uniform, 0 and 1 excluded.
    """
    drawn = _place_for(like, planes)
    drawn.uniform_(SMALLEST, 1, generator=torch.Generator(like.device).manual_seed(int(key)))
    if exponential:  # torch's own exponential_ takes 14 ns a number on a CPU, this 3
        drawn.log_().neg_()
    return _laid_out(drawn, like)


@draw.register_fake
def _(key: Tensor, like: Tensor, planes: int, exponential: bool) -> Tensor:
    return _laid_out(_place_for(like, planes), like)


def _place_for(like: Tensor, planes: int) -> Tensor:
    """Return memory for numbers in the order in which they are drawn."""
    shape = like.shape
    if like.dim() == 4:
        shape = torch.Size((shape[0], shape[2], shape[3], shape[1]))
    return torch.empty((planes, *shape), dtype=like.dtype, device=like.device)


def _laid_out(drawn: Tensor, like: Tensor) -> Tensor:
    """Return what was drawn with the shape and the strides of `like`."""
    if like.dim() != 4:
        return drawn
    drawn = drawn.permute(0, 1, 4, 2, 3)
    return drawn.contiguous() if like.is_contiguous() else drawn
