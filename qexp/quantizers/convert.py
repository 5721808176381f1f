"""Turn a plain float model into a quantized one, and act on all its quantizers at once."""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer
from qexp.quantizers.layers import QuantConv2d, QuantLayer, QuantLinear
from qexp.quantizers.norms import kept_norms
from qexp.utils.types import Progress

SIDES = ("weight", "input")


def quantize(
    model: nn.Module,
    method: Method,
    *,
    weight_bits: int,
    activation_bits: int,
    keep_float: Sequence[str] = ("first", "last"),
) -> nn.Module:
    """Swap the convolutions and linear layers of `model` for quantized ones, in place, and return it.

    The layers keep their `Parameter` objects and names, so a float state dict still loads. Call `calibrate` on a batch
    before training.

    Args:
        model: any module; its layers are taken in the order of `named_modules`.
        method: makes the quantizers.
        weight_bits: 1 to 8, or 32 to leave weights float.
        activation_bits: the same for the layers' inputs.
        keep_float: layers to leave alone: `first`, `last`, a name, or a pattern such as `layer1.*`; followed by
            `:weight` or `:input` for that side only.

    Raises:
        ValueError: a bit-width the method does not have, or an entry of keep_float that fits no layer.
    """
    method.check(weight_bits, activation_bits)
    layers = {name: layer for name, layer in model.named_modules() if _is_float_layer(layer)}
    kept = sides_kept_float(list(layers), keep_float)
    widths = {"weight": weight_bits, "input": activation_bits}
    sides = {name: [side for side in SIDES if widths[side] != FLOAT_BITS and side not in kept[name]] for name in layers}
    chosen = {name: layer for name, layer in layers.items() if sides[name]}
    total = sum(layer.weight.numel() for layer in chosen.values())
    for name, layer in chosen.items():
        info = LayerInfo(layer.weight.numel(), total, len(chosen))
        weight = method.weight(weight_bits, info) if "weight" in sides[name] else None
        activation = method.activation(activation_bits, info) if "input" in sides[name] else None
        model.set_submodule(name, _quantized(layer, weight, activation, scale=method.output_scale))
    return model


def _is_float_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, QuantLayer)


def _quantized(
    layer: nn.Module, weight_quantizer: Quantizer | None, input_quantizer: Quantizer | None, *, scale: bool
) -> QuantLayer:
    """Return the quantized layer that shares the parameters, the device and the mode of a float one."""
    new = QuantConv2d.around(layer) if isinstance(layer, nn.Conv2d) else QuantLinear.around(cast(nn.Linear, layer))
    new.attach(weight_quantizer, input_quantizer, scale=scale)
    new.to(new.weight.device).train(layer.training)
    return new


def sides_kept_float(names: Sequence[str], keep_float: Sequence[str]) -> dict[str, set[str]]:
    """Return for each layer name the sides ("weight", "input") that `keep_float` leaves alone.

    Raises:
        ValueError: an entry that fits no layer.
    """
    kept: dict[str, set[str]] = {name: set() for name in names}
    for entry in keep_float:
        pattern, _, side = entry.partition(":")
        if side and side not in SIDES:
            raise ValueError(f"keep_float entry '{entry}': a layer has the sides weight and input")
        places = {"first": names[:1], "last": names[-1:]}
        found = places.get(pattern) or fnmatch.filter(names, pattern)
        if not found:
            some = ", ".join(names if len(names) <= 6 else [*names[:4], "...", names[-1]])
            raise ValueError(f"keep_float entry '{entry}' fits no layer; layers: {some}")
        for name in found:
            kept[name].update([side] if side else SIDES)
    return kept


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Yield (name, layer) for every quantized layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantLayer))


def named_quantizers(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    """Yield (name, quantizer) for every quantizer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Quantizer))


@torch.no_grad()
def calibrate(model: nn.Module, batch: Tensor) -> None:
    """Set all ranges and scales from `batch`, layer by layer, each layer seeing already quantized predecessors.

    One forward pass in training mode, as the DAQ authors' first training batch; running statistics and the mode of the
    model are left as they were.
    """
    was_training = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: module.calibrate(inputs[0]))
        for _, layer in quantized_layers(model)
    ]
    try:
        with kept_norms(model):
            model.train()(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was_training.items():
            module.training = training


@torch.no_grad()
def anneal(model: nn.Module, progress: Progress) -> None:
    """Move every quantizer's schedule to `progress`, and refresh the ranges of weights that are due."""
    for _, quantizer in named_quantizers(model):
        quantizer.anneal(progress)
    for _, layer in quantized_layers(model):
        own = layer.weight_quantizer
        if own is not None and own.refresh_interval and (progress.step - 1) % own.refresh_interval == 0:
            own.calibrate(layer.weight)


def penalty(model: nn.Module) -> Tensor | float:
    """Return the sum of the quantizers' penalties, 0.0 where no method has one."""
    members: dict[type[Quantizer], list[Quantizer]] = {}
    for _, quantizer in named_quantizers(model):
        members.setdefault(type(quantizer), []).append(quantizer)
    terms = [kind.penalties(group) for kind, group in members.items()]
    return sum((term for term in terms if term is not None), 0.0)


@contextmanager
def evaluation(model: nn.Module, mode: Literal["soft", "hard"]) -> Iterator[None]:
    """Evaluate in `mode` inside the block; outside, evaluation is hard."""
    for _, quantizer in named_quantizers(model):
        quantizer.evaluation = mode
    try:
        yield
    finally:
        for _, quantizer in named_quantizers(model):
            quantizer.evaluation = "hard"


@contextmanager
def cached_weights(model: nn.Module) -> Iterator[None]:
    """Quantize every weight once; all forward passes inside the block use that.

    Gradients add up on the cached weights, and go through the quantizers to the weights at the end of the block.
    """
    cached: list[tuple[QuantLayer, Tensor, Tensor]] = []
    try:
        for _, layer in quantized_layers(model):
            weight = layer.quantized_weight()
            if weight is not layer.weight:
                layer.cached_weight = weight.detach().requires_grad_(weight.requires_grad)
                cached.append((layer, weight, layer.cached_weight))
        yield
        graded = [(weight, leaf.grad) for _, weight, leaf in cached if leaf.grad is not None]
        if graded:
            torch.autograd.backward([weight for weight, _ in graded], [grad for _, grad in graded])
    finally:
        for layer, _, _ in cached:
            layer.cached_weight = None


def recompute(model: nn.Module, enabled: bool) -> None:
    """Choose whether quantized inputs and weights are kept for the backward pass, or computed again in it."""
    for _, layer in quantized_layers(model):
        layer.recompute = enabled
