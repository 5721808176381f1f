"""Which codes change and which turn back, against a loop over single weights."""

import random

import pytest
import torch

from qexp.quantizers import OscillationMeter, quantized_layers
from qexp.quantizers.oscillation import moves
from support.steps import names, network


def literal(courses):
    """For the codes of one weight after another, [[c0, c1, ...], ...]: (changed, turned back) at each time but 0."""
    found = []
    for now in range(1, len(courses[0])):
        changed = turned = 0
        for course in courses:
            steps = [course[t] - course[t - 1] for t in range(1, now + 1)]
            earlier = [step for step in steps[:-1] if step]
            changed += steps[-1] != 0
            turned += bool(earlier) and steps[-1] * earlier[-1] < 0
        found.append((changed, turned))
    return found


def test_moves_are_those_of_a_loop_over_single_weights():
    """Codes up to 255, changes of any size, pauses between a change and the one back."""
    draw = random.Random(0)
    courses = [[draw.choice([0, 1, 2, 255, 254, 3]) for _ in range(30)] for _ in range(50)]
    for course in courses[:25]:
        for t in range(1, 30):
            course[t] = course[t - 1] if draw.random() < 0.7 else course[t]
    codes = torch.tensor(courses, dtype=torch.uint8).T
    direction, found = torch.zeros(50, dtype=torch.int8), []
    for before, now in zip(codes[:-1], codes[1:], strict=True):
        moved = moves(now, before, direction)
        direction = moved.direction
        found.append((moved.changed.sum().item(), moved.turned_back.sum().item()))
    assert found == literal(courses)
    assert sum(turned for _, turned in found) > 100


def forced(model, step):
    """Give the codes of two layers a course: that of layer `2` goes to and fro, that of layer `7` stays."""
    for name, layer in quantized_layers(model):
        up = step % 2 if name == "2" else 0
        codes = torch.full_like(layer.weight, up).to(torch.uint8)
        layer.weight_quantizer.codes = lambda x, codes=codes: (codes, None)


def test_percentages_are_of_all_quantized_weights():
    """The layers have 576 and 1,024 weights; the first change turns nothing back."""
    model = network("daq")
    meter = OscillationMeter(model)
    found = []
    for step in range(4):
        forced(model, step)
        found.append(meter.measure())
    share = pytest.approx(100 * 576 / 1600)
    assert found[0] is None
    assert [(one["changed"], one["turned_back"]) for one in found[1:]] == [(share, 0.0), (share, share), (share, share)]
    whole = {"2/weight/changed": 100.0, "2/weight/turned_back": 100.0, "7/weight/changed": 0.0}
    assert meter.layers == {**whole, "7/weight/turned_back": 0.0}


def test_a_float_net_has_nothing_to_measure():
    meter = OscillationMeter(network())
    assert [meter.measure(), meter.measure(), meter.state_dict(), meter.layers] == [None, None, {}, {}]


@names
def test_a_meter_with_the_state_of_another_goes_on_as_that_one(name):
    model = network(name)
    meter, other = OscillationMeter(model), OscillationMeter(model)
    generator = torch.Generator().manual_seed(0)

    def move():
        for _, layer in quantized_layers(model):
            noise = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data += 0.3 * layer.weight.std() * noise

    for _ in range(3):
        meter.measure()
        move()
    other.load_state_dict({key: {k: v.clone() for k, v in own.items()} for key, own in meter.state_dict().items()})
    for _ in range(2):
        found = meter.measure()
        assert other.measure() == found
        assert 0 < found["turned_back"] < found["changed"] < 100
        move()
