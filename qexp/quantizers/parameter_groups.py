"""Which part each parameter of a network plays: a recipe gives every role its own optimizer and weight decay."""

from torch import nn

from qexp.quantizers.base import Part
from qexp.quantizers.layers import QuantLayer


def parameter_roles(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return role -> parameters, each parameter once.

    `norm`: parameters of normalization layers and biases; `scale`: output scales; a quantizer's parameters by its
    `roles`, `quantizer` for those it does not name; `weight`: the rest.
    """
    roles: dict[str, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            if isinstance(module, Part):
                role = module.roles.get(name, "quantizer")
            elif isinstance(module, QuantLayer) and name == "output_scale":
                role = "scale"
            else:
                role = "norm" if is_norm or name == "bias" else "weight"
            roles.setdefault(role, []).append(parameter)
    return roles
