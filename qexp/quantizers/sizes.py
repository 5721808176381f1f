"""How much a layer is given and computes for one sample, seen in a forward pass of the float network."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from qexp.quantizers.norms import kept_norms


class LayerSize(NamedTuple):
    """Values that one sample brings to a layer, and multiply-accumulates; of all calls, where there are several."""

    features: int = 0
    multiplications: int = 0


@torch.no_grad()
def layer_sizes(model: nn.Module, layers: Mapping[str, nn.Module], sample: Tensor) -> dict[str, LayerSize]:
    """Return name -> size for the layers that a forward pass in evaluation mode calls; nothing of the model changes.

    Args:
        model: float.
        layers: name -> convolution or linear layer of it.
        sample: a batch (N, ...) of any content.
    """
    names, found = {layer: name for name, layer in layers.items()}, dict[str, LayerSize]()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given, before = inputs[0].numel() // len(sample), found.get(names[layer], LayerSize())
        # Each value of the output is a sum over one filter; a transposed layer spreads each value of its input.
        values = given if isinstance(layer, _ConvTransposeNd) else output.numel() // len(sample)
        products = values * cast(Tensor, layer.weight)[0].numel()
        found[names[layer]] = LayerSize(before.features + given, before.multiplications + products)

    was_training = {module: module.training for module in model.modules()}
    hooks = [layer.register_forward_hook(note) for layer in names]
    try:
        with kept_norms(model):
            model.eval()(sample)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was_training.items():
            module.training = training
    return found
