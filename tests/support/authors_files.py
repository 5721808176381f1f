"""Files in the layout of the DAQ authors' ResNet-20, with random content, and a literal form of their network.

Both are written from the description of the layout and the paper's formulas, not from qexp.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["float", "weights", "both"]  # what is quantized
State = dict[str, Tensor]

TENSORS: dict[Kind, int] = {"float": 121, "weights": 229, "both": 211}
BLOCKS = [(stage, block) for stage in (1, 2, 3) for block in (0, 1, 2)]
LAYERS = [f"layer{stage}.block_{block}.0.conv{conv}" for stage, block in BLOCKS for conv in (1, 2)]
PLANES = {1: 16, 2: 32, 3: 64}


def norm_of(key: str, channels: int, random: torch.Generator) -> State:
    """The five tensors of a batch normalisation."""
    return {
        f"{key}.weight": 0.5 + torch.rand(channels, generator=random),
        f"{key}.bias": torch.randn(channels, generator=random) / 4,
        f"{key}.running_mean": torch.randn(channels, generator=random) / 4,
        f"{key}.running_var": 0.5 + torch.rand(channels, generator=random),
        f"{key}.num_batches_tracked": torch.tensor(78_400),
    }


def scalars_of(key: str, kind: Kind, random: torch.Generator) -> State:
    """What follows a quantized convolution; beta is a power of two of either sign."""
    begin, end, top, coin = torch.rand(4, generator=random)
    values = {
        "uW": 2.5 + end,
        "lW": -2.5 - begin,
        "beta": torch.tensor(0.125) * (1 if coin < 0.5 else -1),
        "uA": 1 + top if kind == "both" else torch.tensor(2147483648.0),
        "init": torch.tensor(0),
    }
    if kind == "weights":
        values["lA"] = torch.tensor(-4294967296.0)
    return {f"{key}.{name}": value for name, value in values.items()}


def state_dict(kind: Kind, seed: int = 0) -> State:
    """The tensors of a file."""
    random = torch.Generator().manual_seed(seed)
    state = {"conv1.weight": torch.randn(16, 3, 3, 3, generator=random) / 4, **norm_of("bn1", 16, random)}
    for stage, block in BLOCKS:
        key, width = f"layer{stage}.block_{block}.0", PLANES[stage]
        inputs = PLANES[stage - 1] if stage > 1 and block == 0 else width
        for conv, channels in ((1, inputs), (2, width)):
            noise = torch.randn(width, channels, 3, 3, generator=random)
            state[f"{key}.conv{conv}.weight"] = noise * (2 / (9 * channels)) ** 0.5 + 0.01
            if kind != "float":
                state |= scalars_of(f"{key}.conv{conv}", kind, random)
            state |= norm_of(f"{key}.bn{conv}", width, random)
    state |= norm_of("bn2", 64, random)
    state["linear.weight"] = torch.randn(10, 64, generator=random) / 4
    state["linear.bias"] = torch.randn(10, generator=random)
    return state


def content(kind: Kind, seed: int = 0) -> dict[str, Any]:
    """The whole of a file."""
    whole: dict[str, Any] = {"state_dict": state_dict(kind, seed), "optimizer_dict": {"state": {}}, "epoch": 399}
    if kind != "float":
        whole |= {"scheduler_dict": {"T_max": 400, "base_lrs": [0.1]}, "q_optimizer_dict": {}, "q_scheduler_dict": {}}
    return whole | {"step": 78_400}


def weight_levels(weight: Tensor, lower: Tensor, upper: Tensor, bits: int) -> Tensor:
    """Levels from -1 to 1 of a standardized weight; at 1 bit by the middle of the range alone."""
    x = (weight - weight.mean()) / weight.std(unbiased=True)
    if bits == 1:
        return torch.where(x > (lower + upper) / 2, 1.0, -1.0).to(x)
    steps = 2**bits - 1
    return (2 * rounded((x - lower) / ((upper - lower) / steps), steps) - steps) / steps


def activation_levels(x: Tensor, upper: Tensor, bits: int) -> Tensor:
    """Levels from 0 to 1; at 1 bit by half the range alone."""
    if bits == 1:
        return torch.where(x > upper / 2, 1.0, 0.0).to(x)
    steps = 2**bits - 1
    return rounded(x / (upper / steps), steps) / steps


def rounded(t: Tensor, steps: int) -> Tensor:
    """Round to 0 .. steps, half down."""
    t = t.clamp(0, steps)
    return t.floor() + (t - t.floor() > 0.5)


def logits(state: State, x: Tensor, *, weight_bits: int = 32, activation_bits: int = 32) -> Tensor:
    """The authors' network in evaluation, (N, 3, H, W) to (N, 10), in the precision of `x`; 32 bits are float."""
    state = {key: value.to(x) if value.is_floating_point() else value for key, value in state.items()}

    def norm(y: Tensor, key: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(y, *(state[f"{key}.{name}"] for name in names), eps=1e-5)

    def convolution(y: Tensor, key: str, stride: int) -> Tensor:
        weight, scale = state[f"{key}.weight"], torch.ones(()).to(x)
        if weight_bits < 32:
            weight = weight_levels(weight, state[f"{key}.lW"], state[f"{key}.uW"], weight_bits)
            scale = state[f"{key}.beta"].abs()
        if activation_bits < 32:
            y = activation_levels(y, state[f"{key}.uA"], activation_bits)
        return scale * functional.conv2d(y, weight, stride=stride, padding=1)

    y = functional.conv2d(x, state["conv1.weight"], padding=1).relu()
    for stage, block in BLOCKS:
        key, stride = f"layer{stage}.block_{block}.0", 2 if stage > 1 and block == 0 else 1
        z = norm(convolution(y, f"{key}.conv1", stride), f"{key}.bn1").relu()
        z = norm(convolution(z, f"{key}.conv2", 1), f"{key}.bn2")
        if stride == 2:
            quarter = PLANES[stage] // 4
            y = functional.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        y = (z + y).relu()
    return functional.linear(norm(y.mean((2, 3)), "bn2"), state["linear.weight"], state["linear.bias"])
