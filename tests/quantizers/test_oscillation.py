"""Which codes change and which turn back, against a loop over single weights."""

import random

import pytest
import torch
from torch import nn

from qexp.quantizers import OscillationMeter, quantize, quantized_layers
from qexp.quantizers.oscillation import WATCHED_STEPS, moves
from support import methods
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
    meter.watch(0)
    assert [meter.measure(), meter.measure(), meter.state_dict(), meter.layers] == [None, None, {}, {}]


def codes_of_steps(model, generator):
    """Give the two layers codes that often stay; return them in one row."""
    rows = []
    for _, layer in quantized_layers(model):
        drawn = torch.randint(0, 3, layer.weight.shape, generator=generator, dtype=torch.uint8)
        codes = torch.where(torch.rand(layer.weight.shape, generator=generator) < 0.8, drawn.clamp(max=1), drawn)
        layer.weight_quantizer.codes = lambda x, codes=codes: (codes, None)
        rows.append(codes.flatten())
    return torch.cat(rows)


@pytest.mark.parametrize("steps", [1, 2, 7, WATCHED_STEPS, WATCHED_STEPS + 1, WATCHED_STEPS + 9])
def test_the_last_steps_of_an_epoch_are_compared_one_by_one(steps):
    """As a loop over single weights has it, in each epoch anew, and whoever goes on from a state in between."""
    model, generator = network("daq"), torch.Generator().manual_seed(0)
    meter = OscillationMeter(model)
    meter.measure()
    for _ in range(2):
        seen = []
        for left in reversed(range(steps)):
            seen.append(codes_of_steps(model, generator))
            meter.watch(left)
            state, meter = meter.state_dict(), OscillationMeter(model)
            meter.load_state_dict({name: {key: x.clone() for key, x in own.items()} for name, own in state.items()})
        found = meter.measure()
        courses = torch.stack(seen[-WATCHED_STEPS - 1 :]).T.tolist()
        if steps == 1:
            assert "changed_per_step" not in found
            continue
        sums = [sum(counts) for counts in zip(*literal(courses), strict=True)]
        counted = min(steps - 1, WATCHED_STEPS)
        expected = [pytest.approx(100 * count / counted / 1600) for count in sums]
        assert [found["changed_per_step"], found["turned_back_per_step"]] == expected
        assert sums[1] > 0 or steps == 2
        parts = [size * meter.layers[f"{name}/weight/changed_per_step"] for name, size in (("2", 576), ("7", 1024))]
        assert sum(parts) == pytest.approx(1600 * found["changed_per_step"])


def test_only_the_last_steps_of_an_epoch_cost_anything(monkeypatch):
    meter = OscillationMeter(network("daq"))
    monkeypatch.setattr("qexp.quantizers.oscillation.steady_codes", lambda model: 1 / 0)
    meter.watch(WATCHED_STEPS + 1)
    with pytest.raises(ZeroDivisionError):
        meter.watch(WATCHED_STEPS)


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


def test_a_learned_bit_width_that_changes_moves_no_code_but_those_of_its_lost_levels():
    """k = -7 .. 7 at 4 bits are -3 .. 3 at 3 bits: codes of one middle, though they are counted from the lowest."""
    model = nn.Sequential(nn.Linear(15, 4))
    quantize(model, methods.method("dropbits", learn_bits=True), weight_bits=4, activation_bits=4, keep_float=[])
    own = model[0].weight_quantizer
    own.log_alpha.data.zero_()
    model[0].weight.data.copy_(torch.arange(-7.0, 8).expand(4, 15))
    meter, share = OscillationMeter(model), pytest.approx(100 * 8 / 15)
    assert meter.measure() is None
    for left, second in ((2, 1.0), (1, -1.0), (0, 1.0)):
        own.logits.data.copy_(torch.tensor([1.0, second]))
        meter.watch(left)
    found = meter.measure()
    assert (found["changed"], found["changed_per_step"]) == (0, share)
    assert found["turned_back_per_step"] == pytest.approx(100 * 4 / 15)
    own.logits.data[1] = -1.0
    assert (own.bits, meter.measure()["changed"]) == (3, share)
