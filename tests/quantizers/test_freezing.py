"""Iterative freezing against the equations of the paper, in loops over single weights; and for every method."""

import random

import pytest
import torch
from torch import nn

from qexp.quantizers import Freezing, quantize, quantized_layers
from qexp.quantizers.freezing import CodeHistory, resting_places
from support import methods
from support.steps import batch, make, names, network, take

MOMENTUM = 0.01


def literal(course, thresholds):
    """Return (step at which a weight is frozen or None, its code after each step) for its codes if left alone."""
    before, last, frequency, average = course[0], 0, 0.0, float(course[0])
    frozen_at, kept, shown = None, None, []
    for step, (code, threshold) in enumerate(zip(course[1:], thresholds, strict=True)):
        if frozen_at is None:
            change = code - before
            turned = 1 if change * last < 0 else 0
            last = change or last
            frequency = MOMENTUM * turned + (1 - MOMENTUM) * frequency
            average = MOMENTUM * code + (1 - MOMENTUM) * average
            before = code
            if frequency > threshold:
                frozen_at, kept = step, round(average)
        shown.append(before if frozen_at is None else kept)
    return frozen_at, shown


def test_weights_freeze_when_the_equations_say_and_at_their_average_code():
    draw, steps = random.Random(0), 300
    courses = []
    for weight in range(60):
        stays = (weight / 60) ** 0.3
        course = [draw.randrange(4)]
        for _ in range(steps):
            course.append(course[-1] if draw.random() < stays else draw.randrange(4))
        courses.append(course)
    thresholds = [0.2 - 0.15 * step / steps for step in range(steps)]
    codes = torch.tensor(courses, dtype=torch.uint8).T
    history = CodeHistory.beginning(codes[0].clone())
    shown, frozen = [], []
    for now, threshold in zip(codes[1:], thresholds, strict=True):
        history.see(now, threshold)
        shown.append(history.codes.tolist())
        frozen.append(history.frozen.tolist())
    expected = [literal(course, thresholds) for course in courses]
    assert [list(column) for column in zip(*shown, strict=True)] == [own for _, own in expected]
    first = [column.index(True) if True in column else None for column in zip(*frozen, strict=True)]
    assert first == [at for at, _ in expected]
    assert 5 < sum(at is not None for at, _ in expected) < 60
    assert len({at for at, _ in expected}) > 5


def trained(name, threshold, steps=30):
    """A network after some steps with freezing, the freezing, and the step."""
    model = network(name)
    freezing = Freezing(model)
    freezing.threshold = threshold
    step = make(model, freezing=freezing)
    generator = torch.Generator().manual_seed(0)
    for seed in range(steps):
        take(step, *batch(seed=seed % 3 + 1))
        for key, layer in quantized_layers(model):  # so that some oscillate
            noise = 0.3 * layer.weight.std() * torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data += torch.where(freezing.history[key].frozen, 0, noise)
    return model, freezing, step


def codes_of(layer):
    return layer.weight_quantizer.codes(layer.weight.detach())[0]


@names
def test_a_frozen_weight_keeps_its_code_and_takes_no_gradient(name):
    model, freezing, step = trained(name, 0.005)
    layers = dict(quantized_layers(model))
    before = {key: own.frozen.clone() for key, own in freezing.history.items()}
    kept = {key: own.codes.clone() for key, own in freezing.history.items()}
    assert sum(own.sum().item() for own in before.values()) > 20
    for seed in range(5):
        take(step, *batch(seed=seed + 10))
        for key, layer in layers.items():
            own = freezing.history[key]
            assert bool(own.frozen[before[key]].all())
            assert torch.equal(own.codes[before[key]], kept[key][before[key]])
            assert torch.equal(codes_of(layer)[own.frozen], own.codes[own.frozen])
            assert layer.weight.grad[before[key]].eq(0).all()


@names
def test_a_frozen_weight_stays_where_it_is_while_its_bin_allows(name):
    """And goes to a quarter of the way to the center where that does not hold, also where its range has moved."""
    model, freezing, _ = trained(name, 0.005)
    freezing.before_update()
    expected = {}
    for key, layer in quantized_layers(model):
        own, weight = freezing.history[key], layer.weight
        before = weight.detach().clone(), layer.weight_quantizer.bins(weight.detach())
        with torch.no_grad():
            weight.add_(torch.where(own.frozen, 0.3, 0.0))
        expected[key] = before
    freezing.after_update()
    for key, layer in quantized_layers(model):
        own, (at, bins) = freezing.history[key], expected[key]
        for value, was, code, frozen in zip(
            *(t.flatten().tolist() for t in (layer.weight.detach(), at, own.codes, own.frozen)), strict=True
        ):
            if not frozen:
                assert value == was
                continue
            edges = [float("-inf"), *bins.thresholds.tolist(), float("inf")]
            low, high = (0.75 * edges[code + side] + 0.25 * bins.centers[code].item() for side in (0, 1))
            assert value == pytest.approx(min(max(was, low), high), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("bits", [1, 2])
def test_frozen_weights_do_not_grow(bits):
    """In the centers of their bins, all weights of a DAQ network with one bit would triple with every step."""
    model = network("daq", bits=bits)
    freezing = Freezing(model)
    step = make(model, freezing=freezing)
    take(step, *batch())
    largest = [layer.weight.abs().max().item() for _, layer in quantized_layers(model)]
    for own in freezing.history.values():
        own.frozen.fill_(True)
    for seed in range(60):
        take(step, *batch(seed=seed))
    for (key, layer), before in zip(quantized_layers(model), largest, strict=True):
        assert layer.weight.abs().max().item() < 2 * before
        assert torch.equal(codes_of(layer), freezing.history[key].codes)


@names
def test_nothing_changes_before_the_first_weight_is_frozen(name):
    model, twin = network(name), network(name)
    freezing = Freezing(model)
    freezing.threshold = 1.0
    for step in (make(model, freezing=freezing), make(twin)):
        for seed in range(5):
            take(step, *batch(seed=seed % 3 + 1))
    assert not any(own.frozen.any() for own in freezing.history.values())
    for ours, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_a_frozen_weight_rests_an_eighth_of_a_step_from_thresholds_and_further():
    layer = dict(quantized_layers(network("daq")))["2"]
    bins = layer.weight_quantizer.bins(layer.weight.detach())
    lower, upper = resting_places(bins)
    eighth = (bins.step / 8).item()
    assert lower.tolist() == [float("-inf"), *(pytest.approx(t + eighth) for t in bins.thresholds.tolist())]
    assert upper.tolist() == [*(pytest.approx(t - eighth) for t in bins.thresholds.tolist()), float("inf")]


def test_layers_without_bins_are_left_alone():
    model = network("ste")
    for _, layer in quantized_layers(model):
        layer.weight_quantizer.bins = lambda x: None
    assert Freezing(model).layers == {}


def test_frozen_weights_keep_their_codes_when_a_learned_bit_width_falls():
    """Those of levels that are gone have the outermost code that is left; the others stay where they are."""
    model = nn.Sequential(nn.Linear(15, 4))
    quantize(model, methods.method("dropbits", learn_bits=True), weight_bits=4, activation_bits=4, keep_float=[])
    layer, k = model[0], torch.arange(-7.0, 8).expand(4, 15)
    layer.weight_quantizer.log_alpha.data.zero_()
    layer.weight.data.copy_(k)
    freezing = Freezing(model)
    freezing.before_update()
    freezing.history["0"].frozen.fill_(True)
    for logits, largest in (([2.0, 2.0], 7), ([2.0, -2.0], 3), ([-2.0, -2.0], 1), ([2.0, 2.0], 7)):
        freezing.before_update()
        layer.weight_quantizer.logits.data.copy_(torch.tensor(logits))
        layer.weight.data.add_(0.9)
        freezing.after_update()
        assert torch.equal(layer.weight.data, k)
        assert torch.equal(codes_of(layer).float(), k.clamp(-largest, largest) + largest)
