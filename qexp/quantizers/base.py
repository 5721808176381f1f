"""What every quantizer and every method provides; nothing else is asked of a new one."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from qexp.quantizers.noise import Noise
from qexp.quantizers.numerics import Scalar
from qexp.utils.types import Progress

FLOAT_BITS = 32  # a bit-width of 32 means: not quantized
TINY = 1e-12  # keeps the width of a degenerate range off zero


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return a copy of `value`, bit for bit, whose gradient goes to `x`, unchanged, and none to `value`.

    Args:
        x: what gets the gradient: the tensor to quantize, or a differentiable function of it such as its clamp.
        value: what it is quantized to, of the same shape.
    """
    return _StraightThrough.apply(x, value)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()  # x + (value - x).detach() would round

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class IntegerForm(NamedTuple):
    """A tensor on evenly spaced levels: its values are (factor * codes + shift) * scale + offset.

    Attributes:
        codes: whole numbers from 0 to 2**bits - 1, as floats in a tensor of its own, of the shape of what is quantized.
        factor: a whole number.
        shift: a whole number; factor * codes + shift lies in -(2**bits - 1) .. 2**bits - 1.
        scale: in double precision, as the next one.
        offset: 0.0 where the levels lie evenly around zero, or begin there.

    Each of the four is a single number, or has one for each output channel of a weight (`qexp.quantizers.channels`).
    """

    codes: Tensor
    factor: Scalar
    shift: Scalar
    scale: Scalar
    offset: Scalar

    def integers(self) -> Tensor:
        """Return factor * codes + shift, in place of the codes."""
        scaled = self.codes if _is_number(self.factor, 1) else self.codes.mul_(self.factor)
        return scaled if _is_number(self.shift, 0) else scaled.add_(self.shift)


def _is_number(value: Scalar, number: int) -> bool:
    """Whether a single number is known to be this one; a tensor's value would have to be waited for."""
    return not isinstance(value, Tensor) and value == number


class Bins(NamedTuple):
    """Where the codes of a tensor change, in the units of that tensor and in double precision.

    Where each output channel has a range of its own (`qexp.quantizers.channels`), each has a row of its own as well.

    Attributes:
        centers: (L,), or (..., L), rising: the value that each code stands for.
        thresholds: (L - 1,), or (..., L - 1), rising: the j-th lies between the codes j and j + 1.
        step: 0-dim, or one for each channel: the distance of neighbouring centers.
    """

    centers: Tensor
    thresholds: Tensor
    step: Tensor

    @classmethod
    def even(cls, lowest: Tensor, step: Tensor, count: int) -> "Bins":
        """Return so many bins of one width, the center of the first at `lowest`, thresholds in the middle."""
        index = torch.arange(count, device=step.device, dtype=step.dtype)
        first, width = lowest.unsqueeze(-1), step.unsqueeze(-1)
        return cls(first + index * width, first + (index[:-1] + 0.5) * width, step)


class Part(nn.Module, ABC):
    """A quantizer, or a piece of one that may hold parameters: it names the roles they play in a recipe."""

    roles: ClassVar[Mapping[str, str]] = {}  # own parameter -> role (`range`, `clip`, `attention`, ...)


class Quantizer(Part):
    """Fake quantization of one tensor: a layer's weight, or a layer's input.

    While training, and in soft evaluation, `forward` may return a relaxed value; otherwise it returns at most
    `2**bits` distinct values, in each channel that has levels of its own, equal bit for bit to `levels[codes]`.

    Args:
        bits: the bit-width.

    Attributes:
        noise: where a method is random: all its random numbers come from here, while training and never in evaluation.
    """

    has_soft_form: ClassVar[bool] = False  # does soft evaluation differ from hard evaluation?
    is_scale_free: ClassVar[bool] = False  # is the weight standardized first, so that its size means nothing?
    is_random: ClassVar[bool] = False  # does training draw from `noise`?

    def __init__(self, bits: int):
        super().__init__()
        self._bits = bits
        self.noise = Noise()
        self.evaluation: Literal["soft", "hard"] = "hard"

    @property
    def bits(self) -> int:
        """The bit-width now: a method that learns it works it out from parameters or buffers, which a checkpoint has.

        To ask such a method waits for the device, so that no training step does.
        """
        return self._bits

    @property
    def most_bits(self) -> int:
        """The bit-width that it was made with."""
        return self._bits

    @property
    def is_soft(self) -> bool:
        """Whether `forward` uses the relaxed form, if the method has one."""
        return self.training or self.evaluation == "soft"

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return the fake-quantized tensor, of the shape of `x`."""

    def requantize(self, *arguments: Tensor) -> Tensor:
        """Return again what `forward` returned since the last step: without gradient, and updating no state."""
        with torch.no_grad():
            return self(*arguments)

    @abstractmethod
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes, levels): uint8 codes of the shape of `x`, and the at most `2**bits` levels they index.

        Levels are (L,), or (..., L) where each output channel has its own; `channels.values_at` finds the values.
        """

    def integer_form(self, x: Tensor) -> IntegerForm:
        """Return the hard values of a float tensor as integers and their scale; ValueError for uneven levels."""
        raise ValueError(f"{type(self).__name__} has no even levels")

    @property
    def has_integers(self) -> bool:
        """Whether there is an integer form."""
        return type(self).integer_form is not Quantizer.integer_form

    @property
    def channel_numbers(self) -> int:
        """How many scales and offsets belong to single output channels, and are stored beside the codes."""
        return 0

    def bins(self, x: Tensor) -> Bins | None:
        """Return where the codes of the weight `x` change; None where that is not known."""
        return None

    def calibrate(self, x: Tensor) -> None:  # noqa: B027
        """Set ranges from real data, once, before training."""

    @property
    def refresh_interval(self) -> int | None:
        """Steps after which a weight's ranges are to be calibrated again; None for never."""
        return None

    def anneal(self, progress: Progress) -> None:  # noqa: B027
        """Set everything that follows a schedule, as a pure function of `progress`."""

    def edit_weight(self, weight: Tensor, progress: Progress) -> None:  # noqa: B027
        """Change the weight itself where a method does that at given steps: called before each step, after `anneal`.

        What it remembers belongs into buffers. On resuming it is called once more for the last step that was done,
        before the weights and buffers of that moment are put back.
        """

    def penalty(self) -> Tensor | None:
        """Return a scalar to add to the loss, or None."""
        return None

    @classmethod
    def penalties(cls, quantizers: Sequence["Quantizer"]) -> Tensor | None:
        """Return the sum of the penalties of some quantizers of this class, or None; faster where done at once."""
        present = [term for term in [quantizer.penalty() for quantizer in quantizers] if term is not None]
        return torch.stack(present).sum() if present else None

    def converged(self) -> bool:
        """Whether training ended in the quantizer that hard evaluation uses."""
        return True

    def stats(self) -> dict[str, Tensor]:
        """Return named 0-dim tensors to log: temperatures, attention, ranges."""
        return {}


@dataclass(frozen=True)
class LayerInfo:
    """What a method may need to know about a quantizer's layer and the network; by default it is the only one."""

    layer_weights: int = 1  # weights in this layer
    total_weights: int = 1  # weights in all quantized layers
    layers: int = 1  # quantized layers
    channel_shape: tuple[int, ...] = ()  # of one number for each output channel of the weight, such as (64, 1, 1, 1)
    index: int = 0  # of this layer among the quantized ones, in the order of `named_modules`
    shape: tuple[int, ...] = ()  # of the weight
    features: int = 0  # values of one sample that the layer is given, where `Method.needs_sizes`, as the next one
    multiplications: int = 0  # multiply-accumulates of one sample


class Method(ABC):
    """A published method: makes the quantizers of every layer. Its fields are the options of its YAML file."""

    weight_bits: ClassVar[Collection[int]] = range(1, 9)
    activation_bits: ClassVar[Collection[int]] = range(1, 9)
    output_scale: ClassVar[bool] = False  # does a layer learn a scale |beta|? Weight quantizers are given it, then
    needs_sizes: ClassVar[bool] = False  # of LayerInfo: features and multiplications, for which a sample is passed

    @abstractmethod
    def weight(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        """Return a new quantizer for a layer's weight; raise ValueError for options that cannot go together."""

    @abstractmethod
    def activation(self, bits: int, layer: LayerInfo = LayerInfo()) -> Quantizer:
        """Return a new quantizer for a layer's input."""

    def check(self, weight_bits: int, activation_bits: int) -> None:
        """Raise ValueError if the method has no quantizer of these bit-widths (32 = float, always allowed)."""
        for what, bits, known, make in (
            ("weights", weight_bits, self.weight_bits, self.weight),
            ("activations", activation_bits, self.activation_bits, self.activation),
        ):
            if bits == FLOAT_BITS:
                continue
            if bits not in known:
                listed = ", ".join(map(str, [*known, FLOAT_BITS]))
                raise ValueError(f"has no {bits}-bit {what}; bit-widths it has: {listed}")
            with torch.device("meta"):
                make(bits)
