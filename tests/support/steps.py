"""Small networks with every method, and a step of them."""

from functools import partial

import pytest
import torch
from torch import nn

from qexp.engine.optim import Optimizers
from qexp.engine.schedules import make_schedule
from qexp.engine.step import Step, cross_entropy
from qexp.experiment.device import place
from qexp.models.resnet_cifar import resnet20
from qexp.quantizers import (
    cached_weights,
    calibrate,
    named_quantizers,
    parameter_roles,
    penalty,
    quantize,
    quantized_layers,
)
from qexp.utils.types import OptimizerOptions, Progress, RoleOptimizers, ScheduleOptions
from support import methods

SGD = OptimizerOptions(name="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.01)
ADAM = OptimizerOptions(name="adam", lr=0.01, momentum=0.9, nesterov=False, weight_decay=0.0)
_OF_QUANTIZERS = {role: ADAM for role in ("range", "scale", "mask", "bits", "noise", "quantizer")}
ROLES = RoleOptimizers(weight=SGD, norm=SGD, clip=SGD, attention=SGD, **_OF_QUANTIZERS)
CONSTANT = ScheduleOptions(name="constant", warmup=0.0, milestones=(), factor=0.1, end=0.0, restarts=(), own=None)

# A clip has a gradient of its own, a mix of clipped and other grids one more; sawb keeps what it found.
WORDS = [
    *(name for name in methods.NAMES if name != "fp"),
    "ste activation_grid=pact",
    "dqa mix=[sawb@2,minmax@4,fp] activation_mix=[pact@2,pact@4,fp]",
]


def batch(count=12, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator, dtype=dtype)
    return images, torch.randint(0, 5, (count,), generator=generator)


class Whole(nn.Module):
    """A network whose outermost code is not torch's own, which torch 2.11 does not compile."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images)


def shift_norms(model):
    """Give batch norms a bias: else coarse values that equal their mean are rounding errors at the next ReLU."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1, generator=generator)


def network(name="fp", bits=2, activation_bits=None, dtype=torch.float32, norm=False):
    """Float convolution, quantized convolution, quantized square linear layer, float classifier; calibrated."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, bias=not norm), nn.BatchNorm2d(8) if norm else nn.Identity()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)),
    ).to(dtype)
    shift_norms(model)
    if name != "fp":
        activation_bits = activation_bits or bits
        quantize(model, methods.method(name), weight_bits=bits, activation_bits=activation_bits)
        model.to(dtype)
    calibrate(model, batch(16, dtype, seed=2)[0] / 2)  # so that some inputs lie outside
    for _, quantizer in named_quantizers(model):
        quantizer.anneal(Progress(3, 10, 1, 4))
    return model.train()


class WholeStep(Step):
    """A step that is taken by a call."""

    def __call__(self, images, labels):
        return take(self, images, labels)


def take(step, images, labels):
    """The lines of `fit` that train on one batch; return what the step gave."""
    with step.cached_weights():
        for part in step.parts(images, labels):
            step.backward(step.forward(part))
    step.update()
    return step.output


def make(model, **options):
    """A step of the model with its penalty and the usual optimizers."""
    usual = {
        "optimizers": Optimizers(parameter_roles(model), ROLES, make_schedule(CONSTANT)),
        "penalty": partial(penalty, model),
        "cached_weights": partial(cached_weights, model),
    }
    return WholeStep(model, criterion=cross_entropy(0.1), **(usual | options))


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(ours, expected, **tolerance):
    """Compare two dictionaries of tensors; without a tolerance, bit for bit."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            ours[name], value, **(tolerance or {"rtol": 0, "atol": 0}), msg=lambda m, n=name: n + m
        )


class Calls:
    """Counts the calls of a model's weight quantizers and input quantizers."""

    def __init__(self, model):
        self.weight, self.input = [], []
        for name, layer in quantized_layers(model):
            layer.weight_quantizer.register_forward_hook(lambda *_, name=name: self.weight.append(name))
            layer.input_quantizer.register_forward_hook(lambda *_, name=name: self.input.append(name))


# Memory


def small_resnet(name, configure, *words, dtype=torch.float32):
    """A calibrated ResNet-20, placed as the configuration says; and images as batches give them."""
    torch.manual_seed(0)
    model = resnet20(5, 3, 8, width=0.25)
    shift_norms(model)
    if name != "fp":
        quantize(model, methods.method(name), weight_bits=2, activation_bits=2)
    images, labels = batch(16, dtype)
    images = images.to(memory_format=torch.channels_last)
    model = place(model.to(dtype), configure("dataset=synthetic", *words), torch.device("cpu"))
    calibrate(model, images)
    return model, images, labels


names = pytest.mark.parametrize("name", WORDS)


def seen_by(model, kind):
    """A list that fills with (module, input, output) of every module of a kind."""
    seen = []
    for module in model.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
    return seen
