"""Turn a plain float model into a quantized one, and act on all its quantizers at once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from qexp.quantizers.base import FLOAT_BITS, LayerInfo, Method, Quantizer
from qexp.quantizers.channels import channel_shape
from qexp.quantizers.coverage import Coverage, LayerCoverage
from qexp.quantizers.layer_bits import Choice, check_choices, choose_bits
from qexp.quantizers.layers import QuantLayer, quantize_layer
from qexp.quantizers.noise import whole
from qexp.quantizers.norms import kept_norms
from qexp.quantizers.reach import layers_of, leave_fast_paths, named_otherwise, obstacles, other_weights, weights_of
from qexp.quantizers.sizes import LayerSize, layer_sizes
from qexp.utils.text import few, plural
from qexp.utils.types import Progress


def quantize(
    model: nn.Module,
    method: Method,
    *,
    weight_bits: int,
    activation_bits: int,
    keep_float: Sequence[str] = ("first", "last"),
    layer_bits: Sequence[str] = (),
    seed: int = 0,
    sample: Tensor | None = None,
) -> Coverage:
    """Turn the convolutions and linear layers of `model` into quantized ones, in place.

    A layer stays the object that it is, with its parameters, hooks and names, so a float state dict still loads. Call
    `calibrate` on a batch before training.

    Args:
        model: any module; its layers are taken in the order of `named_modules`.
        method: makes the quantizers.
        weight_bits: 1 to 8, or 32 to leave weights float.
        activation_bits: the same for the layers' inputs.
        keep_float: layers to leave alone: `first`, `last`, a name, or a pattern such as `layer1.*`; followed by
            `:weight` or `:input` for that side only.
        layer_bits: layers with bits of their own: the same, followed by `:BITS`.
        seed: of the random numbers that methods draw while training.
        sample: a batch (N, ...) of any content, which methods need that ask how much a layer computes.

    Returns:
        What is quantized, what is left float, and why: also layers whose weight cannot be reached.

    Raises:
        ValueError: a bit-width the method does not have, an entry that fits no layer, nothing to quantize, or no sample
            for a method that needs one.
        TypeError: a seed that is no whole number.
    """
    seed = whole(seed)
    layers, fixed, before = layers_of(model), obstacles(model), sum(1 for _ in quantized_layers(model))
    if before and not layers:
        raise ValueError(f"there is nothing to quantize: the model is quantized already, in {plural(before, 'layer')}")
    choices = choose_bits(list(layers), (weight_bits, activation_bits), keep_float, layer_bits, fixed)
    check_choices(method, (weight_bits, activation_bits), choices)
    coverage = _coverage(model, layers, choices, fixed)
    chosen = {one.name: layers[one.name] for one in coverage.quantized}
    if not chosen and (layer_bits or (weight_bits, activation_bits) != (FLOAT_BITS, FLOAT_BITS)):
        already = f"; {plural(before, 'layer')} quantized before" if before else ""
        raise ValueError(_nothing(coverage) + already)
    for name, info in _infos(model, method, chosen, sample).items():
        of_weight, of_input = choices[name].bits
        layer = quantize_layer(
            chosen[name],
            None if of_weight == FLOAT_BITS else method.weight(of_weight, info),
            None if of_input == FLOAT_BITS else method.activation(of_input, info),
            scale=method.output_scale,
            method=type(method).__name__,
        )
        for side, own in (("weight", layer.weight_quantizer), ("input", layer.input_quantizer)):
            if own is not None:
                own.noise.begin(seed, name, side)
    leave_fast_paths(model)
    return coverage


def _infos(
    model: nn.Module, method: Method, layers: Mapping[str, nn.Module], sample: Tensor | None
) -> dict[str, LayerInfo]:
    """Return what a method is told of each layer that is to be quantized."""
    if method.needs_sizes and sample is None:
        raise ValueError(f"{type(method).__name__} asks how much each layer computes: quantize(sample=...) shows it")
    sizes = layer_sizes(model, layers, sample) if method.needs_sizes and sample is not None else {}
    counts = {name: weights_of(layer) for name, layer in layers.items()}
    return {
        name: LayerInfo(
            layer_weights=counts[name],
            total_weights=sum(counts.values()),
            layers=len(layers),
            channel_shape=channel_shape(layer, layer.weight),  # type: ignore[arg-type]
            index=index,
            shape=tuple(layer.weight.shape),  # type: ignore[arg-type]
            **sizes.get(name, LayerSize())._asdict(),
        )
        for index, (name, layer) in enumerate(layers.items())
    }


def _coverage(
    model: nn.Module, layers: Mapping[str, nn.Module], choices: Mapping[str, Choice], fixed: Mapping[str, str]
) -> Coverage:
    """Return what the layers of a model are going to be."""
    also, found = named_otherwise(model), []
    for name, layer in layers.items():
        weight_bits, input_bits = (FLOAT_BITS, FLOAT_BITS) if name in fixed else choices[name].bits
        reason = fixed.get(name) or ", ".join(dict.fromkeys(filter(None, choices[name].entries)))
        if not reason and weight_bits == input_bits == FLOAT_BITS:
            reason = "of 32 bits, as layers are that no entry names"
        kind, count = type(layer).__name__, weights_of(layer)
        found.append(LayerCoverage(name, kind, count, weight_bits, input_bits, reason, also.get(name, ())))
    return Coverage(tuple(found), other_weights(model))


def _nothing(coverage: Coverage) -> str:
    """Return why there is nothing to quantize."""
    if not coverage.layers:
        return "there is nothing to quantize: the model has no convolution and no linear layer"
    reasons = [f"{layer.name or 'the model'}: {layer.reason}" for layer in coverage.layers]
    return f"there is nothing to quantize: {few(reasons, 3)}"


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Yield (name, layer) for every quantized layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantLayer))


def named_quantizers(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    """Yield (name, quantizer) for every quantizer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Quantizer))


@torch.no_grad()
def calibrate(model: nn.Module, batch: Tensor) -> list[str]:
    """Set all ranges and scales from `batch`, layer by layer, each layer seeing already quantized predecessors.

    Returns the layers that quantize an input which is 0 throughout: a range that is learned from it lets nothing pass.

    One forward pass in training mode, as the DAQ authors' first training batch; running statistics and the mode of the
    model are left as they were.

    Raises:
        ValueError: a quantized layer that the model does not call, or a batch of nothing.
    """
    if not batch.numel():
        raise ValueError(f"calibrate needs samples, and was given none: a batch of shape {tuple(batch.shape)}")
    was_training = {module: module.training for module in model.modules()}
    reached: dict[nn.Module, bool] = {}  # layer -> whether it saw anything but 0

    def set_ranges(layer: QuantLayer, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        x = inputs[0] if inputs else next(iter(named.values()))
        reached[layer] = reached.get(layer, False) or layer.input_quantizer is None or bool(x.any())
        layer.calibrate(x)

    hooks = [layer.register_forward_pre_hook(set_ranges, with_kwargs=True) for _, layer in quantized_layers(model)]
    try:
        with kept_norms(model):
            model.train()(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was_training.items():
            module.training = training
    check_reached(model, [name for name, layer in quantized_layers(model) if layer in reached])
    return [name for name, layer in quantized_layers(model) if not reached[layer]]


def check_reached(model: nn.Module, names: Collection[str], keep_float: Sequence[str] | None = None) -> None:
    """Raise ValueError if quantized layers are not among those that a forward pass of the model called.

    Args:
        model: quantized.
        names: of what a forward pass called.
        keep_float: with which it was quantized, for the advice; None where that is not known.
    """
    missed = [name for name, _ in quantized_layers(model) if name not in names]
    if missed:
        patterns = list(dict.fromkeys(_pattern(name) for name in missed))
        whole = f"'keep_float=[{','.join([*(keep_float or ()), *patterns])}]'"  # quoted: a shell looks for files by *
        advice = f"adding {','.join(patterns)} to keep_float" if keep_float is None else whole
        raise ValueError(
            f"{few(missed, 3)}: never called in a forward pass (its weight is used by another module, or not at all), "
            f"so it cannot be quantized; leave it float by {advice}"
        )


def _pattern(name: str) -> str:
    """Return `*.qkv` for `features.1.0.attn.qkv`; the name itself where it is of one word."""
    before, _, last = name.rpartition(".")
    return f"*.{last}" if before and not last.isdigit() else name


@torch.no_grad()
def anneal(model: nn.Module, progress: Progress) -> None:
    """Move every quantizer's schedule and noise to `progress`; let methods edit weights, and refresh ranges if due."""
    for _, quantizer in named_quantizers(model):
        if quantizer.is_random:
            quantizer.noise.go_to(progress.step)
        quantizer.anneal(progress)
    for _, layer in quantized_layers(model):
        own = layer.weight_quantizer
        if own is not None:
            own.edit_weight(layer.weight, progress)
            if own.refresh_interval and (progress.step - 1) % own.refresh_interval == 0:
                own.calibrate(layer.weight)


def begin_part(model: nn.Module, part: int) -> None:
    """Say which part of the batch comes next, counted from 0: each has random numbers of its own."""
    for _, quantizer in named_quantizers(model):
        if quantizer.is_random:
            quantizer.noise.go_to_part(part)


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
