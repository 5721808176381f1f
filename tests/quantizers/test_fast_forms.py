"""The single-operation quantizers against plain tensor operations under autograd, over a whole training."""

import copy
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.quantizers import anneal, calibrate, named_quantizers, penalty, quantize
from qexp.quantizers.mixture import GridQuantizer
from qexp.utils.types import Progress
from support import methods, plain

STEPS = 50
METHODS = ["ste", "br", "dqa", "daq", "dqa activation_grid=pact"]


def network(name):
    """Three quantized convolutions behind and before float layers, in double precision, and data to learn."""
    torch.manual_seed(0)
    channels = [(1, 6), (6, 8), (8, 8), (8, 8)]
    layers = [
        nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in channels
    ]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).double()
    labels = torch.arange(32) % 4
    images = torch.randn(32, 1, 6, 6, dtype=torch.float64) + labels[:, None, None, None] * torch.eye(6).double()
    quantize(net, methods.method(name), weight_bits=2, activation_bits=2)
    net.double().to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    calibrate(net, images)
    return net, images, labels


def losses(net, images, labels):
    """SGD with momentum on all parameters, over the whole schedule."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    found = []
    for step in range(STEPS):
        anneal(net, Progress(step + 1, STEPS, step // 10, STEPS // 10))
        loss = F.cross_entropy(net(images), labels) + penalty(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("name", METHODS)
def test_fifty_steps_are_those_of_the_plain_form(name):
    """Every loss of a training with weights and inputs at 2 bits, to 1e-9."""
    net, images, labels = network(name)
    reference = copy.deepcopy(net)
    for _, quantizer in named_quantizers(reference):
        form = plain.mix_forward if isinstance(quantizer, GridQuantizer) else plain.daq_forward
        quantizer.forward = types.MethodType(form, quantizer)
    ours, expected = losses(net, images, labels), losses(reference, images, labels)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert expected[-1] < expected[0] - 0.1
    for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_saved_but_the_input(name):
    """What autograd keeps of a quantizer of inputs: its input at most, and single numbers."""
    x = methods.sample("activation", 4, 8, 6, 6).requires_grad_()
    quantizer = methods.build(name, "activation", 2)
    quantizer.calibrate(x.detach())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        quantizer(x)
    large = [tensor for tensor in kept if tensor.numel() > 100]
    assert [tensor.data_ptr() for tensor in large] == ([] if name in ("ste", "br") else [x.data_ptr()])
