"""A method tried on a small tensor before it trains anything: all that will be asked of it until the last epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer
from qexp.quantizers.channels import values_at
from qexp.utils.text import kind_of_value
from qexp.utils.types import Progress

VALUES = (4, 3, 2, 2)  # the shape of the tensor


def check_method(method: Method, weight_bits: int, activation_bits: int) -> None:
    """Ask a method's quantizers for what training, evaluation and the summary will ask them for.

    Raises:
        ValueError: one fails, or returns what it must not; with the name of what was asked.
    """
    with torch.enable_grad(), torch.device("cpu"):
        _check_sides(method, weight_bits, activation_bits)


def _check_sides(method: Method, weight_bits: int, activation_bits: int) -> None:
    sides = (("weight", weight_bits, method.weight), ("activation", activation_bits, method.activation))
    for side, bits, make in sides:
        if bits != FLOAT_BITS:
            quantizer = make(bits, LayerInfo(channel_shape=(VALUES[0], 1, 1, 1)))
            if not isinstance(quantizer, Quantizer):
                raise ValueError(
                    f"{side}() returned {kind_of_value(quantizer)} and must return a qexp.quantizers.base.Quantizer"
                )
            _check_quantizer(quantizer, bits, of_inputs=side == "activation")


def _check_quantizer(quantizer: Quantizer, bits: int, *, of_inputs: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(VALUES, generator=generator)
    x = x.relu() if of_inputs else x
    ask = _asking(quantizer)
    if quantizer.bits != bits:
        raise ValueError(f"{type(quantizer).__name__}.bits is {quantizer.bits!r}, not {bits}")
    ask("calibrate", x)
    ask("anneal", Progress(1, 4, 1, 2))
    _check_training(quantizer, x.clone().requires_grad_(), ask)
    ask("anneal", Progress(4, 4, 2, 2))
    quantizer.eval()
    with torch.no_grad():
        _check_codes(quantizer, x, quantizer.bits, ask)  # a learned width may be another one by now
        ask("bins", x)
        if quantizer.has_integers:
            ask("integer_form", x.clone())
    found = ask("stats")
    if not isinstance(found, Mapping):
        raise ValueError(f"{type(quantizer).__name__}.stats returned {kind_of_value(found)}, not names with tensors")
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError(f"{type(quantizer).__name__}.stats()['{name}'] is no tensor of a single number")
    ask("converged")
    ask("penalties", [quantizer])


def _asking(quantizer: Quantizer) -> Callable[..., Any]:
    """Return a call of a method by name, whose errors say which it was."""

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(quantizer, name)(*arguments)
        except Exception as error:  # of somebody's method
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            raise ValueError(f"{type(quantizer).__name__}.{name} failed in a trial ({reason})") from error

    return ask


def _check_training(quantizer: Quantizer, x: Tensor, ask: Callable[..., Any]) -> None:
    quantizer.train()
    value, name = ask("forward", x), type(quantizer).__name__
    if not isinstance(value, Tensor) or value.shape != x.shape:
        raise ValueError(f"{name}.forward does not return a tensor of the shape of its argument")
    if not value.requires_grad:
        raise ValueError(f"{name}.forward passes no gradient to its argument")
    try:
        value.sum().backward()
    except Exception as error:  # of somebody's autograd function
        raise ValueError(f"{name}.forward has no gradient ({next(iter(str(error).splitlines()), '')})") from error
    again = ask("requantize", x.detach())
    if not torch.equal(again, ask("requantize", x.detach())) or again.requires_grad:
        raise ValueError(f"{name}.requantize does not return the same values twice, without gradient")
    if not quantizer.is_random and _hangs_on_noise(quantizer, lambda: ask("requantize", x.detach())):
        raise ValueError(f"{name} draws from its noise, which moves from step to step only with is_random = True")


def _hangs_on_noise(quantizer: Quantizer, compute: Callable[[], Tensor]) -> bool:
    """Whether other random numbers give other values; what is computed may draw from torch's generators as well."""
    before, step = compute(), quantizer.noise.step
    quantizer.noise.go_to(step + 1)
    differs = not torch.equal(before, compute())
    quantizer.noise.go_to(step)
    return differs


def _check_codes(quantizer: Quantizer, x: Tensor, bits: int, ask: Callable[..., Any]) -> None:
    name, found = type(quantizer).__name__, ask("codes", x)
    if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(own, Tensor) for own in found):
        raise ValueError(f"{name}.codes does not return two tensors, codes and levels")
    codes, levels = found
    if codes.dtype != torch.uint8 or codes.shape != x.shape:
        raise ValueError(f"{name}.codes: codes are no uint8 tensor of the shape of the argument")
    count, rows = levels.shape[-1] if levels.dim() else 0, levels.shape[:-1]
    is_row = not rows or (
        len(rows) == x.dim() and all(own in (1, size) for own, size in zip(rows, x.shape, strict=True))
    )
    if not is_row or not 1 <= count <= 2**bits or int(codes.max()) >= count:
        raise ValueError(f"{name}.codes: levels are not one row of at most {2**bits} that the codes index")
    if not torch.equal(ask("forward", x), values_at(levels, codes)):
        raise ValueError(f"{name}: evaluated, forward is not levels[codes]")
    quantizer.evaluation = "soft"
    is_drawn = _hangs_on_noise(quantizer, lambda: ask("forward", x))
    quantizer.evaluation = "hard"
    if is_drawn:
        raise ValueError(f"{name}: soft evaluation draws random numbers, which training alone may do (self.training)")
