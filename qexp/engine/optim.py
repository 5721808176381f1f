"""Optimizers by parameter role."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from qexp.engine.schedules import Schedule
from qexp.utils.types import OptimizerOptions, RoleOptimizers


class Optimizers:
    """One torch optimizer per kind (SGD, Adam, AdamW), one parameter group per role, one schedule for all.

    Args:
        parameters: role -> parameters; a role that `options` lacks uses `options.quantizer`.
        options: per role.
        schedule: factor of every learning rate over training.
    """

    def __init__(self, parameters: Mapping[str, list[nn.Parameter]], options: RoleOptimizers, schedule: Schedule):
        self.schedule = schedule
        groups: dict[str, list[dict]] = {}
        for role, members in parameters.items():
            if members:
                chosen: OptimizerOptions = getattr(options, role, options.quantizer)
                group = _sgd_group(chosen) if chosen.name == "sgd" else _adam_group(chosen)
                groups.setdefault(chosen.name, []).append({"params": members, "role": role, **group})
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        # Fused: one operation for the many single numbers that quantizers learn, and on CUDA no waiting for the scaler.
        self.optimizers = [kinds[name](members, fused=True) for name, members in groups.items()]
        self._start_momentum()

    def _start_momentum(self) -> None:
        """Begin momentum at zero, as SGD does in its first step.

        torch's fused SGD leaves it uninitialized where that step is left out because float16 gradients overflowed.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
                    for parameter in group["params"]:
                        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def _groups(self) -> Iterator[dict]:
        return (group for optimizer in self.optimizers for group in optimizer.param_groups)

    def set_learning_rates(self, done: float) -> None:
        """Set them for the fraction of training that is done."""
        factor = self.schedule(done)
        for group in self._groups():
            group["lr"] = group["base_lr"] * factor

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def clip(self, scaler: torch.amp.GradScaler, largest: float) -> None:
        """Scale all gradients down to a norm of `largest` over all parameters, where it is larger.

        Equal to `scaler.unscale_` and torch's `clip_grad_norm_`, but for a norm that is not finite with an enabled
        `scaler`: all gradients become NaN then, so that it leaves out the whole update, and not one optimizer's alone.
        """
        parameters = [parameter for group in self._groups() for parameter in group["params"]]
        norm = nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        norm = norm / scaler.scale(torch.ones_like(norm))  # gradients stay scaled, and a power of two rounds nothing
        if scaler.is_enabled():
            norm = norm.masked_fill(~norm.isfinite(), torch.nan)
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)

    def step(self, scaler: torch.amp.GradScaler) -> Tensor | bool:
        """Update all parameters, and return whether that was done; to ask a tensor for it waits for the device.

        An enabled `scaler` leaves out the whole update where a gradient is not finite.
        """
        happened = self._spoil_unless_finite() if scaler.is_enabled() else True
        for optimizer in self.optimizers:
            scaler.step(optimizer)
        scaler.update()
        return happened

    def _spoil_unless_finite(self) -> Tensor:
        """Let all gradients be NaN where one is not finite: the scaler would leave out that one's optimizer alone."""
        gradients = [one.grad for group in self._groups() for one in group["params"] if one.grad is not None]
        is_finite = nn.utils.get_total_norm(gradients, norm_type=torch.inf).isfinite()
        for gradient in gradients:
            gradient.masked_fill_(~is_finite, torch.nan)
        return is_finite

    def state_dict(self) -> dict[str, dict]:
        """Return kind -> state of that optimizer."""
        return {type(optimizer).__name__: optimizer.state_dict() for optimizer in self.optimizers}

    def load_state_dict(self, state: Mapping[str, dict]) -> None:
        """Set the optimizers to what `state_dict` returned."""
        for optimizer in self.optimizers:
            optimizer.load_state_dict(state[type(optimizer).__name__])
            for parameter, own in optimizer.state.items():
                # Fused optimizers go through memory from end to end: it has to be laid out as the parameter's.
                for name, value in own.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        own[name] = torch.empty_like(parameter).copy_(value)

    def learning_rates(self) -> dict[str, float]:
        """Return role -> current learning rate."""
        return {group["role"]: group["lr"] for group in self._groups()}


def _sgd_group(options: OptimizerOptions) -> dict:
    return {
        "lr": options.lr,
        "base_lr": options.lr,
        "momentum": options.momentum,
        "nesterov": options.nesterov,
        "weight_decay": options.weight_decay,
    }


def _adam_group(options: OptimizerOptions) -> dict:
    return {
        "lr": options.lr,
        "base_lr": options.lr,
        "betas": (options.momentum, 0.999),
        "weight_decay": options.weight_decay,
    }
