"""The fused operations against their definitions in plain torch under autograd, alone and over a whole training."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qexp.quantizers import anneal, calibrate, penalty, quantize, straight_through
from qexp.quantizers.daq import distance_aware_plain
from qexp.quantizers.functional import mix_grids, mix_grids_plain
from qexp.quantizers.grids import Binary, Float, Ternary, Uniform
from qexp.quantizers.srq import semi_relaxed_plain
from qexp.utils.types import Progress
from support import methods

STEPS = 50
METHODS = ["ste", "br", "dqa", "daq", "dqa activation_grid=pact", "srq", "srq backward=all activation_backward=mode"]


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


def relaxed_plain(*arguments, backward, **_):
    """Of what only the fused form needs, nothing."""
    return semi_relaxed_plain(*arguments, backward=backward)


@pytest.mark.training
@pytest.mark.parametrize("name", METHODS)
def test_fifty_steps_are_those_of_the_plain_form(name, monkeypatch):
    """Every loss of a training with weights and inputs at 2 bits, to 1e-9."""
    net, images, labels = network(name)
    reference = copy.deepcopy(net)
    ours = losses(net, images, labels)
    monkeypatch.setattr("qexp.quantizers.mixture.mix_grids", mix_grids_plain)
    monkeypatch.setattr("qexp.quantizers.daq.distance_aware", distance_aware_plain)
    monkeypatch.setattr("qexp.quantizers.srq.semi_relaxed", relaxed_plain)
    expected = losses(reference, images, labels)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert expected[-1] < expected[0] - 0.1
    for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


# name -> grids, mixing weights, which grids clip
MIXES = {
    "one grid": ([Uniform(2)], None, None),
    "one grid that clips": ([Uniform(2)], None, [True]),
    "three grids": ([Uniform(2), Uniform(4), Uniform(8)], [0.5, 0.3, 0.2], None),
    "three grids that clip": ([Uniform(2), Uniform(4), Uniform(8)], [0.5, 0.3, 0.2], [True, True, True]),
    "grids that clip and others": ([Uniform(2), Uniform(4), Float(32)], [0.6, 0.3, 0.1], [True, True, False]),
    "binary and full precision": ([Binary(1), Float(32)], [0.7, 0.3], None),
    "ternary and others": ([Ternary(2), Uniform(4), Uniform(8)], [0.2, 0.2, 0.6], None),
}


def of_mix(function, grids, weights, clipped):
    """Value and gradients of x, weights, lower and upper; some values lie on the bounds, many outside."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 30, generator=generator, dtype=torch.float64)
    x[0, :5], x[1, :5] = -0.8, 1.1
    x.requires_grad_()
    lower, upper = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-0.8, 1.1))
    mixing = None if weights is None else torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    ternary = (-upper, upper, torch.tensor(0.4, dtype=torch.float64))
    scaled = [grid.scaled(ternary if isinstance(grid, Ternary) else (lower, upper)) for grid in grids]
    y = function(x, scaled, mixing, clip=clipped and (lower, upper), clipped=clipped or ())
    y.backward(torch.randn(x.shape, generator=generator, dtype=torch.float64))
    return [y.detach(), x.grad, *(leaf.grad for leaf in (mixing, lower, upper) if leaf is not None)]


@pytest.mark.parametrize("case", MIXES)
def test_a_mix_of_grids_is_its_definition(case):
    """In double precision: the sums are in another order, nothing else."""
    for ours, expected in zip(of_mix(mix_grids, *MIXES[case]), of_mix(mix_grids_plain, *MIXES[case]), strict=True):
        if expected is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_straight_through_is_the_value_bit_for_bit_and_passes_the_gradient_to_x():
    """Also where x + (value - x) would round, at -0.0, and where x is infinite; the result may be changed in place."""
    x = torch.tensor([1e8, 0.1, -1.0, math.inf, 3.0], requires_grad=True)
    value = torch.tensor([0.3, 0.1, -0.0, 1.0, 2.0], requires_grad=True)
    y = straight_through(x, value)
    assert torch.equal(y.detach().view(torch.int32), value.detach().view(torch.int32))
    y.mul_(2).backward(torch.arange(5.0))
    assert x.grad.tolist() == [0, 2, 4, 6, 8]
    assert value.grad is None
    assert value.tolist()[4] == 2.0


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
