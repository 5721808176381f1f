"""Which layers of a network can be quantized, and why the others cannot."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from qexp.quantizers.layers import QuantLayer, has_own_forward, kind_of, quantize_layer, quantized_class

_F = nn.functional
OPERATIONS: tuple[Callable, ...] = (
    *(_F.conv1d, _F.conv2d, _F.conv3d, _F.conv_transpose1d, _F.conv_transpose2d, _F.conv_transpose3d, _F.linear),
)


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return name -> every convolution and linear layer that is not quantized yet, in the order of `named_modules`."""
    return {name: module for name, module in model.named_modules() if kind_of(type(module)) is not None}


def obstacles(model: nn.Module) -> dict[str, str]:
    """Return name -> why a layer of `layers_of` cannot be quantized; those that can are left out."""
    attentions = {name: type(one) for name, one in model.named_modules() if isinstance(one, nn.MultiheadAttention)}
    found = {}
    for name, layer in layers_of(model).items():
        if (parent := attentions.get(name.rpartition(".")[0])) is not None and name:
            found[name] = _obstacle_in_attention(parent)
        elif (reason := _obstacle(layer)) is not None:
            found[name] = reason
    return found


def _obstacle_in_attention(parent: type[nn.Module]) -> str:
    """Return why the layers of an attention are left alone, whose forward may be one of somebody's own."""
    if parent.forward is nn.MultiheadAttention.forward:
        return "nn.MultiheadAttention multiplies by its weight without calling it"
    return f"{parent.__name__} is an nn.MultiheadAttention, and may multiply by its weight without calling it"


def _obstacle(layer: nn.Module) -> str | None:
    if any(is_lazy(parameter) for parameter in layer.parameters()):
        return "it has no shape before its first batch; run the model once"
    if "weight" in layer._parameters and not weights_of(layer):
        return "it has no weights"
    if "weight" not in layer._parameters:
        return "its weight is made from other parameters (a parametrization, weight_norm, spectral_norm)"
    if "forward" in vars(layer):
        return "its forward was replaced"
    if not _can_change_class(type(layer)):
        return f"objects of {type(layer).__name__} cannot get another class"
    return _changed_operation(layer) if has_own_forward(type(layer)) else None


def _can_change_class(layer_class: type[nn.Module]) -> bool:
    """Whether objects of a class can become quantized layers; those with slots or a metaclass of their own cannot."""
    try:
        object.__new__(layer_class).__class__ = quantized_class(layer_class)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


class _Watch(TorchFunctionMode):
    """Notes what a layer multiplies, and whatever else it makes of its weight."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight, self.inputs = weight, list[Tensor]()
        self.other = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        given = [*args, *named.values()]
        if func in OPERATIONS and (args[1] if len(args) > 1 else named.get("weight")) is self.weight:
            self.inputs.append(args[0] if args else named["input"])
        elif func in OPERATIONS:
            self.other = self.other or "multiplies by another tensor than its weight"
        elif any(value is self.weight for value in given) and isinstance(result, Tensor) and result is not self.weight:
            self.other = self.other or f"changes its weight ({getattr(func, '__name__', func)})"
        return result


def _changed_operation(layer: nn.Module) -> str | None:
    """Return why a forward of somebody's own would not multiply quantized inputs with quantized weights, if so.

    It is tried in both modes, with values of a few levels: it has to multiply once, by the weight that it is given, and
    values that it was given, or zeros around them.
    """
    return _changed_in_mode(layer, True) or _changed_in_mode(layer, False)


def _changed_in_mode(layer: nn.Module, training: bool) -> str | None:
    name = type(layer).__name__
    trial, generator = _trial_copy(layer), torch.Generator().manual_seed(0)
    quantized = quantize_layer(trial, None, None).train(training)
    levels = torch.tensor([-1.5, 0.75, 2.25])
    x = levels[torch.randint(3, _trial_shape(layer), generator=generator)]
    weight = levels[torch.randint(3, quantized.weight.shape, generator=generator)]
    watch = _Watch(weight)
    try:
        with torch.no_grad(), watch:
            quantized.apply_operation(x, weight, quantized.bias)
    except Exception as error:  # whatever somebody's forward raises
        return f"{name}.forward failed in a trial ({type(error).__name__})"
    if watch.other:
        return f"{name}.forward {watch.other}"
    if len(watch.inputs) != 1:
        return f"{name}.forward multiplies by its weight {len(watch.inputs)} times"
    if not torch.isin(watch.inputs[0], torch.cat([levels, torch.zeros(1)])).all():
        return f"{name}.forward changes its input before it multiplies"
    return None


def _trial_copy(layer: nn.Module) -> nn.Module:
    """Return a copy on the CPU in single precision, also of a layer without memory."""
    found = copy.deepcopy(layer)
    found._forward_hooks.clear()
    found._forward_pre_hooks.clear()
    if any(own.is_meta for own in [*found.parameters(), *found.buffers()]):
        found = found.to_empty(device="cpu")
        for own in [*found.parameters(), *found.buffers()]:
            own.data.fill_(1)
    return found.cpu().float()


def _trial_shape(layer: nn.Module) -> Sequence[int]:
    """Return the shape of a small input that the layer takes."""
    if isinstance(layer, nn.Linear):
        return 2, layer.in_features
    assert isinstance(layer, _ConvNd)
    reach = [dilation * (size - 1) + 4 for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    return 2, layer.in_channels, *reach


def weights_of(layer: nn.Module) -> int:
    """Return how many weights a layer has, 0 while it does not know."""
    weight = getattr(layer, "weight", None)
    return weight.numel() if isinstance(weight, Tensor) and not is_lazy(weight) else 0


def named_otherwise(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Return name -> the other names of layers that a network holds at several places."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantLayer) or kind_of(type(module)) is not None:
            names.setdefault(id(module), []).append(name)
    return {first: tuple(others) for first, *others in names.values() if others}


def other_weights(model: nn.Module) -> dict[str, str]:
    """Return name -> what it is, for modules that are no such layers and hold parameters of two dimensions or more."""
    known = {
        nn.Embedding: "an embedding",
        nn.EmbeddingBag: "an embedding",
        nn.RNNBase: "a recurrent layer",
        nn.RNNCellBase: "a recurrent layer",
        nn.MultiheadAttention: "the products of nn.MultiheadAttention",
    }
    found = {}
    for name, module in model.named_modules():
        own = [key for key, parameter in module._parameters.items() if _is_matrix(parameter)]
        if own and kind_of(type(module)) is None and not isinstance(module, QuantLayer):
            kinds = [text for kind, text in known.items() if isinstance(module, kind)]
            found[name] = kinds[0] if kinds else f"parameters of {type(module).__name__} itself ({', '.join(own)})"
    return found


def _is_matrix(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and (is_lazy(parameter) or sum(size > 1 for size in parameter.shape) > 1)


def leave_fast_paths(model: nn.Module) -> None:
    """Keep transformer layers with quantized layers in them from a fast path that reads weights and calls no layer."""
    for module in model.modules():
        is_quantized = any(isinstance(inner, QuantLayer) for inner in module.modules())
        if isinstance(module, nn.TransformerEncoderLayer) and is_quantized:
            module.activation_relu_or_gelu = 0  # what says in torch that its activation has no fast path
        elif isinstance(module, nn.TransformerEncoder) and is_quantized:
            module.use_nested_tensor = False  # the slow path cannot read nested tensors
