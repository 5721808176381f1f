"""How a configured network is placed, trained on a batch, and evaluated."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from qexp import quantizers
from qexp.config import Config, Recipe
from qexp.engine.memory import keep_freed_memory
from qexp.engine.metrics import evaluate
from qexp.engine.optim import Optimizers
from qexp.engine.step import Step, cross_entropy
from qexp.observer import Metrics
from qexp.schedules import make_schedule


def place(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """Return `model` on its device, in the memory layout and with the treatment of activations asked for."""
    quantizers.recompute(model, config.recompute)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    if config.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))  # batches come channels last
    return model.to(device)


def make_step(model: nn.Module, recipe: Recipe, *, compiled: bool = False) -> Step:
    """Return the training step of a recipe; call it when the model is on its device and calibrated.

    Args:
        model: the network.
        recipe: how to train it.
        compiled: let torch.compile fuse the network and the penalty, one graph for each size of batch.
    """
    penalty: Callable[[], Tensor | float] = partial(quantizers.penalty, model)
    if compiled:
        model.compile(dynamic=False)
        if isinstance(penalty(), Tensor):
            penalty = torch.compile(penalty, dynamic=False)
    return Step(
        model,
        criterion=cross_entropy(recipe.label_smoothing),
        optimizers=Optimizers(quantizers.parameter_roles(model), recipe.optimizer, make_schedule(recipe.schedule)),
        penalty=penalty,
        precision=recipe.precision,
        accumulate=recipe.accumulate,
        hold=partial(quantizers.held_weights, model),
    )


def evaluate_hard(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Return metrics of the quantized network; weights are quantized once."""
    return evaluate(model, batches, partial(quantizers.held_weights, model))


def evaluate_both(model: nn.Module, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> tuple[Metrics, Metrics]:
    """Return (hard, soft) metrics."""
    hard = evaluate_hard(model, batches())
    if not quantizers.has_soft_form(model):
        return hard, hard
    with quantizers.evaluation(model, "soft"):
        return hard, evaluate(model, batches(), partial(quantizers.held_weights, model))
