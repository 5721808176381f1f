"""Hard evaluation of a whole network: weights quantized once, and sums that do not depend on their order.

Where some layers have quantized weights and inputs, evaluation is exact: the same logits, bit for bit, for every number
of threads and every size of batch.

quantized on both sides    whole numbers are multiplied in single precision, scales and offsets applied to the sum
other 2-d and linear ones  input and weight are rounded to some 22 bits and multiplied as whole numbers in double
batch norm                 x * scale + shift, both worked out in double; two operations, each rounded
average of all pixels      in double
all else                   as it is; element by element, that is exact as well

Left to the library, so that a single image may differ in its last bits from the same in a batch: convolutions in 1 and
3 dimensions and transposed ones that are not quantized on both sides, products of matrices, and float layers with a
forward of their own.

Other networks, float ones and those with quantized weights alone, would become several times slower. There the order of
sums is the library's, and all that is done is that a single image is evaluated beside a copy of itself: for a batch of
one, libraries sum in another order (docs/design.md).
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qexp.quantizers.convert import quantized_layers
from qexp.quantizers.exact_forms import AffineNorm, Average, DoubleLayer, Form, IntegerLayer, OwnForward, ScaledSums
from qexp.quantizers.layers import KINDS, QuantConv2d, QuantLayer, QuantLinear, has_own_forward


@contextmanager
def hard_evaluation(model: nn.Module, codes: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside the block, forward passes of `model` are those of the hard network, see above.

    Args:
        model: in evaluation mode.
        codes: layer name -> codes (uint8, of the shape of the weight) to use in place of the quantizer's own.
    """
    given = codes or {}
    with ExitStack() as after, torch.no_grad():
        form_of = _exact_form if _is_exact(model) else _plain_form
        for name, module in model.named_modules():
            before = vars(module).get("forward")
            if before is not None and not isinstance(before, Form):
                continue  # somebody else's
            form = form_of(module, given.get(name))
            if form is not None:
                module.forward = form
                after.callback(_put_back, module, before)
        after.enter_context(torch.backends.nnpack.flags(enabled=False))  # its Winograd transforms are not exact
        if form_of is _plain_form:
            after.enter_context(_never_a_single_image(model))
        yield


def _put_back(module: nn.Module, forward: Any) -> None:
    del module.forward
    if forward is not None:
        module.forward = forward


def _is_exact(model: nn.Module) -> bool:
    """Whether the network has layers that multiply integers; MPS has no double precision for all the others."""
    return any(
        _has_integers(layer)
        and isinstance(layer, KINDS)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type != "mps"
        for _, layer in quantized_layers(model)
    )


def _has_integers(layer: QuantLayer) -> bool:
    """Whether a layer multiplies as torch's own do, and both sides of it are quantized to even levels."""
    sides = (layer.weight_quantizer, layer.input_quantizer)
    return isinstance(layer, KINDS) and all(quantizer is not None and quantizer.has_integers for quantizer in sides)


def _exact_form(module: nn.Module, codes: Tensor | None) -> "Form | None":
    """Return the exact forward pass of a module of a kind that has one; a subclass may compute something else."""
    if isinstance(module, QuantLayer) and _has_integers(module):
        return IntegerLayer(module, codes)
    if isinstance(module, QuantLayer) and not isinstance(module, QuantConv2d | QuantLinear):
        return _plain_form(module, codes)
    if isinstance(module, nn.Conv2d | nn.Linear):
        is_own = not isinstance(module, QuantLayer) and has_own_forward(type(module))
        return None if is_own else DoubleLayer(module, codes)
    if isinstance(module, _BatchNorm) and module.running_mean is not None and _computes_as(module, _BatchNorm):
        return AffineNorm(module)
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return Average() if _computes_as(module, nn.AdaptiveAvgPool2d) else None
    return None


def _computes_as(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether the forward pass of a module is that of one of these classes."""
    return type(module).forward in [kind.forward for kind in kinds]


def _plain_form(module: nn.Module, codes: Tensor | None) -> "Form | None":
    """Return the forward pass of a quantized layer."""
    if not isinstance(module, QuantLayer):
        return None
    return ScaledSums(module, codes) if isinstance(module, KINDS) else OwnForward(module, codes)


@contextmanager
def _never_a_single_image(model: nn.Module) -> Iterator[None]:
    """Inside the block, the network sees one image as that image and a copy of it, in all of its inputs."""
    single = False

    def double(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal single
        single = bool(inputs) and isinstance(inputs[0], Tensor) and inputs[0].shape[:1] == (1,)
        if not single:
            return inputs, named
        return tuple(map(_twice, inputs)), {key: _twice(value) for key, value in named.items()}

    hooks = [
        model.register_forward_pre_hook(double, with_kwargs=True),
        model.register_forward_hook(lambda _, __, output: _of_first(output) if single else output),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _twice(value: Any) -> Any:
    """Return a tensor of one image for two; anything else, single numbers among it, stays what it is."""
    return torch.cat([value] * 2) if isinstance(value, Tensor) and value.shape[:1] == (1,) else value


def _of_first(output: Any) -> Any:
    """Return of a tensor, or tensors in tuples, lists and dictionaries, what is of the first image.

    A single number, such as a mean over images, stays what it is.
    """
    if isinstance(output, Tensor):
        return output[:1] if output.dim() else output
    if isinstance(output, dict):
        found = copy.copy(output)  # of its own class, which may have the entries as attributes too
        for key, value in output.items():
            found[key] = _of_first(value)
        return found
    if hasattr(output, "_fields"):
        return type(output)(*map(_of_first, output))
    return type(output)(map(_of_first, output)) if isinstance(output, tuple | list) else output
