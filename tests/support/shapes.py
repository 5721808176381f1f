"""What a network consists of."""

from torch import Tensor, nn


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def outputs(model: nn.Module, kind: type[nn.Module], x: Tensor) -> list[tuple[int, ...]]:
    """Shapes of the outputs of all modules of one kind."""
    shapes: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    model.eval()(x)
    return shapes
