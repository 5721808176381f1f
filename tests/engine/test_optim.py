"""Optimizers: one for each group of options, roles by name, states laid out as their parameters."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from qexp.engine.optim import Optimizers
from qexp.utils.types import OptimizerOptions
from support.fitting import ROLES, schedule


def test_roles_get_their_own_optimizer_and_rate():
    """SGD and Adam side by side; a role of a new method falls back to `quantizer`."""
    parameters = {role: [nn.Parameter(torch.ones(2))] for role in ("weight", "range", "mask")}
    optimizers = Optimizers(parameters, ROLES, schedule("step", milestones=(0.5,), factor=0.1))
    optimizers.set_learning_rates(0.0)
    assert optimizers.learning_rates() == {"weight": 0.1, "range": 0.01, "mask": 0.01}
    assert [type(one).__name__ for one in optimizers.optimizers] == ["SGD", "Adam"]
    optimizers.set_learning_rates(0.5)
    assert optimizers.learning_rates() == pytest.approx({"weight": 0.01, "range": 0.001, "mask": 0.001})
    for (parameter,) in parameters.values():
        parameter.grad = torch.ones(2)
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False))
    assert parameters["weight"][0].tolist() == pytest.approx([1 - 0.01 * 1.01] * 2)
    assert parameters["range"][0].tolist() == pytest.approx([1 - 0.001] * 2)
    optimizers.zero_grad()
    assert all(parameter.grad is None for (parameter,) in parameters.values())


def test_momentum_is_laid_out_as_its_parameter() -> None:
    """torch's fused optimizers go through memory from end to end, whatever the strides."""
    weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    optimizers = Optimizers({"weight": [weight]}, ROLES, schedule())
    state = copy.deepcopy(optimizers.state_dict())
    last = torch.arange(48.0).view(4, 3, 2, 2)
    state["SGD"]["state"][0]["momentum_buffer"] = last.to(memory_format=torch.channels_last)
    optimizers.load_state_dict(state)
    (found,) = (own["momentum_buffer"] for own in optimizers.optimizers[0].state.values())
    assert found.stride() == weight.stride()
    assert torch.equal(found, last)


def test_adamw_equals_its_formula_written_out() -> None:
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2: the decay is taken from the weight, not from its gradient.

    With the same decay Adam goes elsewhere.
    """
    torch.manual_seed(0)
    start, rate, decay, beta1, beta2 = torch.randn(6), 0.01, 0.3, 0.8, 0.999
    options = OptimizerOptions(name="adamw", lr=rate, momentum=beta1, nesterov=False, weight_decay=decay)
    roles = {name: replace(ROLES, weight=replace(options, name=name)) for name in ("adamw", "adam")}
    found = {name: nn.Parameter(start.clone()) for name in roles}
    optimizers = {name: Optimizers({"weight": [found[name]]}, roles[name], schedule()) for name in roles}
    value, mean, square = start.double(), torch.zeros(6).double(), torch.zeros(6).double()
    for step in range(1, 6):
        gradient = torch.randn(6)
        for name, parameter in found.items():
            parameter.grad = gradient.clone()
            optimizers[name].step(torch.amp.GradScaler("cpu", enabled=False))
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient.double() ** 2
        moved = (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + 1e-8)
        value = value - rate * decay * value - rate * moved
    torch.testing.assert_close(found["adamw"].detach(), value.float())
    assert (found["adam"] - found["adamw"]).abs().max() > 1e-3
    assert [type(one).__name__ for one in optimizers["adamw"].optimizers] == ["AdamW"]
    assert all(group["fused"] for one in optimizers.values() for group in one.optimizers[0].param_groups)


def scaled(*gradients: list[float]) -> tuple[Optimizers, list[nn.Parameter], torch.amp.GradScaler]:
    """An optimizer of each kind with a parameter of 1 and a gradient that is scaled as with float16."""
    parameters = [nn.Parameter(torch.ones(2)) for _ in gradients]
    roles = dict(zip(("weight", "range"), ([one] for one in parameters), strict=True))
    optimizers, scaler = Optimizers(roles, ROLES, schedule()), torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient) * 65536
    return optimizers, parameters, scaler


def test_gradients_of_all_optimizers_are_clipped_together_and_as_they_are_without_their_scale() -> None:
    """3 and 4 have a norm of 5: to 2.5 both are halved. 65536 is the scale that torch begins with."""
    for largest, factor in ((2.5, 0.5), (5.1, 1.0)):
        optimizers, parameters, scaler = scaled([3.0, 0.0], [0.0, 4.0])
        optimizers.clip(scaler, largest)
        found = [(parameter.grad / 65536).tolist() for parameter in parameters]
        assert found[0] == pytest.approx([3 * factor, 0], rel=1e-6)
        assert found[1] == pytest.approx([0, 4 * factor], rel=1e-6)


def test_an_overflow_in_one_optimizer_leaves_out_the_clipped_update_of_both() -> None:
    """Else the other one's gradients would be 0, and weight decay would move its weights."""
    for gradients in (([float("inf"), 0.0], [0.0, 4.0]), ([3.0, 0.0], [0.0, float("inf")])):
        optimizers, parameters, scaler = scaled(*gradients)
        optimizers.clip(scaler, 2.5)
        optimizers.step(scaler)
        assert [parameter.tolist() for parameter in parameters] == [[1, 1], [1, 1]]
