"""How a configured network is placed, trained on a batch, and evaluated."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from qexp import quantizers
from qexp.config.config import Config, Recipe
from qexp.engine.metrics import evaluate
from qexp.engine.optim import Optimizers
from qexp.engine.schedules import make_schedule
from qexp.engine.step import Step, cross_entropy
from qexp.experiment.memory import keep_freed_memory
from qexp.utils.callback import Metrics


def place(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """Return `model` on its device, in the memory layout and with the treatment of activations asked for."""
    quantizers.recompute(model, config.recompute)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic  # else each process may choose other algorithms
    else:
        keep_freed_memory()
    if config.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))  # batches come channels last
    return model.to(device)


@contextmanager
def determinism(enabled: bool) -> Iterator[None]:
    """With `enabled`, allow only operations that give the same bits twice; others raise RuntimeError."""
    if not enabled:
        yield
        return
    cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    before, kept = torch.are_deterministic_algorithms_enabled(), (cudnn.deterministic, memory.fill_uninitialized_memory)
    # cuBLAS reads this when the process uses it for the first time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, memory.fill_uninitialized_memory = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.deterministic, memory.fill_uninitialized_memory = kept


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
        hold=partial(quantizers.cached_weights, model),
    )


def evaluate_hard(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Return metrics of the quantized network; weights are quantized once."""
    return evaluate(model, batches, partial(quantizers.cached_weights, model))


def evaluate_both(model: nn.Module, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> tuple[Metrics, Metrics]:
    """Return (hard, soft) metrics."""
    hard = evaluate_hard(model, batches())
    if not quantizers.has_soft_form(model):
        return hard, hard
    with quantizers.evaluation(model, "soft"):
        return hard, evaluate(model, batches(), partial(quantizers.cached_weights, model))
