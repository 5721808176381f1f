"""Dampening against its formula, for every method."""

import pytest
import torch

from qexp.quantizers import Dampening, quantized_layers
from qexp.quantizers.dampening import means_by_code
from support.steps import batch, make, names, network, take


def literal(layer, weight):
    """The sum over single weights of (center - clip(w, lowest, highest))^2, in double precision."""
    codes = layer.weight_quantizer.codes(layer.weight.detach())[0].flatten().tolist()
    centers = layer.weight_quantizer.bins(layer.weight.detach()).centers.tolist()
    total = 0.0
    if layer.weight_quantizer.is_scale_free:
        own = layer.weight.detach().double().flatten().tolist()
        members = {code: [w for w, other in zip(own, codes, strict=True) if other == code] for code in set(codes)}
        for value, code in zip(weight.flatten(), codes, strict=True):
            total = total + (sum(members[code]) / len(members[code]) - value) ** 2
        return total
    for own, code in zip(weight.flatten(), codes, strict=True):
        total = total + (centers[code] - own.clamp(centers[0], centers[-1])) ** 2
    return total


@names
def test_the_penalty_and_its_gradient_are_those_of_the_formula(name):
    model = network(name)
    dampening = Dampening(model)
    dampening.strength = 0.3
    layers = [layer for _, layer in quantized_layers(model)]
    weights = [layer.weight.detach().double().requires_grad_() for layer in layers]
    expected = 0.3 * sum(literal(layer, weight) for layer, weight in zip(layers, weights, strict=True))
    found = dampening()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-9)
    ours = torch.autograd.grad(found, [layer.weight for layer in layers])
    for own, own_expected in zip(ours, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(own.double(), own_expected, rtol=1e-4, atol=1e-6)
    assert any(own.ne(0).any() for own in ours)


@names
def test_only_latent_weights_learn_from_it(name):
    """No gradient reaches ranges, scales and mixing weights."""
    model = network(name)
    dampening = Dampening(model)
    dampening.strength = 1.0
    dampening().backward()
    graded = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert graded == {f"{name}.weight" for name, _ in quantized_layers(model)}


@names
def test_weights_come_to_rest_in_the_middle_of_their_bins(name):
    """Ranges follow from the weights and move with them, so that some distance is left."""
    model = network(name)
    dampening = Dampening(model)
    dampening.strength = 1.0
    optimizer = torch.optim.SGD([layer.weight for _, layer in quantized_layers(model)], lr=0.05)
    first = dampening().item()
    for _ in range(100):
        optimizer.zero_grad()
        dampening().backward()
        optimizer.step()
    assert dampening().item() < 0.3 * first


@pytest.mark.parametrize("name", ["daq", "daq bits=1", "daq bits=2", "ste"])
def test_no_weights_grow(name):
    """Of DAQ they did with the centers of its bins, whose distance follows the deviation of the weights."""
    words = name.split()
    model = network(words[0], bits=int(words[1][-1])) if len(words) > 1 else network(name)
    dampening = Dampening(model)
    dampening.strength = 0.1
    weights = [layer.weight for _, layer in quantized_layers(model)]
    largest = [weight.abs().max().item() for weight in weights]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for _ in range(200):
        optimizer.zero_grad()
        dampening().backward()
        optimizer.step()
    assert all(weight.abs().max().item() < 1.5 * size for weight, size in zip(weights, largest, strict=True))


def test_nothing_to_dampen_is_no_penalty():
    """Of a float net, and of layers whose bins are not known."""
    assert Dampening(network())() == 0.0
    model = network("ste")
    for _, layer in quantized_layers(model):
        layer.weight_quantizer.bins = lambda x: None
    assert Dampening(model)() == 0.0


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_counts_once_in_a_batch_and_in_its_penalty(accumulate):
    model, plain = network("daq"), network("daq")
    dampening = Dampening(model)
    dampening.strength = 0.5
    layers = [layer for _, layer in quantized_layers(model)]
    expected = dampening()
    gradients = torch.autograd.grad(expected, [layer.weight for layer in layers])
    assert take(make(model, accumulate=accumulate, penalty=dampening), *batch()).penalty.item() == expected.item()
    take(make(plain, accumulate=accumulate, penalty=lambda: 0.0), *batch())
    for layer, (_, own), gradient in zip(layers, quantized_layers(plain), gradients, strict=True):
        torch.testing.assert_close(layer.weight.grad - own.weight.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_means_of_many_weights_are_right_in_half_precision(granularity, dtype):
    """A count of ones would stop at 256 in bfloat16, at 2,048 in float16."""
    weight = torch.randn(16, 4096, generator=torch.Generator().manual_seed(0))
    codes = (weight > 0).to(torch.uint8)
    centers = torch.zeros(2) if granularity == "tensor" else torch.zeros(16, 1, 2)
    expected = means_by_code(weight.to(dtype).double(), codes, centers)
    torch.testing.assert_close(means_by_code(weight.to(dtype), codes, centers).double(), expected, rtol=1e-2, atol=0)
