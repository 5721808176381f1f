"""Networks to time: ResNet-18 for CIFAR as qexp builds and trains it, with the literal formulas, and with Brevitas."""

from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor, nn

from qexp import quantizers
from qexp.config.compose import composing
from qexp.config.config import Config
from qexp.experiment.build import assemble, build_network, make_step
from qexp.experiment.device import place
from qexp.quantizers import daq
from qexp.utils.types import Progress

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BASE = ("dataset=cifar10", "model=resnet18", "init=scratch")


def configured(*words: str) -> Config:
    """Return the configuration of `qexp train` with these words."""
    with composing() as composer:
        return composer.job([*BASE, *words]).config


def batch(size: int, pixels: int = 32) -> tuple[Tensor, Tensor]:
    """Return random images, channels last, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, pixels, pixels, generator=generator).to(DEVICE, memory_format=torch.channels_last)
    return images, torch.randint(0, 10, (size,), generator=generator).to(DEVICE)


class Trainee:
    """A network that trains on one fixed batch: every call is one step."""

    def __init__(self, *words: str, size: int, form: str = "qexp"):
        self.config = configured(*words)
        torch.manual_seed(0)
        self.images, self.labels = batch(size)
        self.model = place(build_network(self.config, assemble(self.config)), self.config, DEVICE)
        if form == "brevitas":
            with_brevitas(self.model)
        quantizers.calibrate(self.model, self.images)
        if form == "literal":
            with_literal_daq(self.model)
        self.step = make_step(self.model, self.config.recipe, compiled=self.config.compile)
        self.model.train()
        self.steps = 1  # the SAWB search of the first of every 100 steps is not in what is timed

    def __call__(self) -> None:
        self.steps = 2 + self.steps % 98
        quantizers.anneal(self.model, Progress(self.steps, 1000, 0, 300))
        for part in self.step.parts(self.images, self.labels):
            self.step.backward(self.step.forward(part))
        self.step.update()


def with_literal_daq(model: nn.Module) -> None:
    """Let DAQ's quantizers compute the paper's formulas one after the other under autograd."""
    for _, quantizer in quantizers.named_quantizers(model):
        quantizer.forward = _literal(quantizer.forward)  # type: ignore[method-assign]


def _literal(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*arguments: Tensor) -> Tensor:
        with patch.object(daq, "distance_aware", daq.distance_aware_plain):
            return forward(*arguments)

    return call


def with_brevitas(model: nn.Module) -> None:
    """Put Brevitas' 2-bit layers (per-tensor scales, weights and inputs) in the place of all inner convolutions."""
    from brevitas.nn import QuantConv2d
    from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][1:]
    for name in names:
        old = model.get_submodule(name)
        new = QuantConv2d(
            old.in_channels,
            old.out_channels,
            old.kernel_size,
            stride=old.stride,
            padding=old.padding,
            bias=old.bias is not None,
            weight_quant=Int8WeightPerTensorFloat,
            weight_bit_width=2,
            input_quant=Uint8ActPerTensorFloat,
            input_bit_width=2,
        )
        model.set_submodule(name, new.to(DEVICE, memory_format=torch.channels_last))
