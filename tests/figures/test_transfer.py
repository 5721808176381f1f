"""What a quantizer makes of its input and of a gradient, beside the quantizer itself and beside formulas."""

import copy
import csv
import io
import math
from itertools import pairwise

import pytest
import torch

from qexp.figures import transfer
from qexp.figures.chart import Band, Chart, Curve, numbers_csv
from qexp.utils.types import Progress
from support import methods

VALUES = transfer.normal_quantiles(2**11)
SIDES = [(name, side) for name in methods.NAMES if name != "fp" for side in ("weight", "activation")]


def calibrated(name, side, bits=None, **changes):
    """A quantizer for standard normal weights, or for the same behind a ReLU, and these values."""
    quantizer = getattr(methods.method(name, **changes), side)(bits or methods.usual_bits(name.split()[0]))
    values = VALUES if side == "weight" else VALUES.relu()
    quantizer.calibrate(values)
    return quantizer, values


def curve(panel, label):
    """The points of a curve, level pieces filled up: x -> y."""
    (found,) = (mark for mark in panel.marks if isinstance(mark, Curve) and mark.label == label)
    return dict(zip(found.x, found.y, strict=True))


def test_the_values_are_those_of_a_standard_normal_distribution():
    values = transfer.normal_quantiles(2**13).double()
    assert (float(values.mean()), float(values.std())) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=2e-3))
    assert float((values < 1.0).double().mean()) == pytest.approx(0.841345, abs=2e-4)


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_the_hard_curve_is_what_the_quantizer_returns_in_evaluation(name, side, monkeypatch):
    monkeypatch.setattr(transfer, "DRAWS", 3)
    quantizer, values = calibrated(name, side, 3)
    value, _ = transfer.transfer_panels(transfer.transfer(quantizer, values), side, x_label="x")
    expected = dict(zip(values.tolist(), quantizer.eval()(values).tolist(), strict=True))
    found = curve(value, transfer.HARD)
    assert found == {x: expected[x] for x in found}
    assert set(found.values()) == set(expected.values())
    # Between neighbours of different value lies a threshold, and nothing else of the tensor.
    rising = sorted(expected)
    assert [(low + high) / 2 for low, high in pairwise(rising) if expected[low] != expected[high]] == pytest.approx(
        list(value.guides), abs=1e-6
    )


@pytest.mark.parametrize("side", ["weight", "activation"])
def test_the_gradient_of_a_straight_through_estimator_is_one(side):
    quantizer, values = calibrated("ste", side)
    found = transfer.transfer(quantizer, values)
    assert list(found.trained) == [transfer.ALWAYS]
    assert found.trained[transfer.ALWAYS].slope.eq(1).all()


def test_the_gradient_of_a_clip_is_one_inside_and_zero_outside():
    quantizer, values = calibrated("ste activation_grid=pact", "activation")
    (clip,) = quantizer.parameters()
    clip.data.fill_(2.0)
    found = transfer.transfer(quantizer, values)
    assert torch.equal(found.trained[transfer.ALWAYS].slope, (found.x < 2).float())


@pytest.mark.parametrize(("side", "sigma", "gamma", "ends", "factor"), [("weight", 1, 2, (-3, 3), 2)])
def test_the_gradient_of_daq_is_the_slope_of_its_paper(side, sigma, gamma, ends, factor):
    """D'(t) = gamma / (2 sinh gamma) coth((|1 - 2r| + 1 / sigma^2) / 2), of the standardized weight."""
    quantizer, values = calibrated("daq", side, 2)
    found = transfer.transfer(quantizer, values)
    low, high = ends
    for x, slope in zip(found.x.tolist(), found.trained[transfer.ALWAYS].slope.tolist(), strict=True):
        t = (x / float(values.std()) - low) / (high - low) * 3
        inside = 0 <= t <= 3
        kernel = 1 / math.tanh((abs(1 - 2 * (t % 1)) + 1 / sigma**2) / 2)
        expected = inside * factor * gamma / (2 * math.sinh(gamma)) * kernel / (high - low) / float(values.std())
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-6), x


def test_of_a_schedule_beginning_middle_and_end_are_shown():
    """DQA's mix: nearly even at first, the lowest grid at the end."""
    quantizer, values = calibrated("dqa", "weight")
    found = transfer.transfer(quantizer, values)
    assert list(found.trained) == list(transfer.MOMENTS)
    for name, progress in transfer.MOMENTS.items():
        own = copy.deepcopy(quantizer).train()
        own.anneal(progress)
        expected = dict(zip(values.tolist(), own(values).tolist(), strict=True))
        assert found.trained[name].value.tolist() == [expected[x] for x in found.x.tolist()]
    last = found.trained["training, at the end"]
    assert last.value.tolist() == pytest.approx(found.hard.value.tolist(), abs=1e-4)


def test_the_mean_of_a_random_method_is_that_of_its_distribution(monkeypatch):
    """RQ ST takes each point with the mass of its bin under logistic noise."""
    draws = 400
    monkeypatch.setattr(transfer, "DRAWS", draws)
    quantizer, values = calibrated("rq", "weight", straight_through=True, neighbours=None)
    found = transfer.transfer(quantizer, values)
    own = found.trained[transfer.ALWAYS]
    alpha, sigma = float(quantizer.alpha.detach()), float(quantizer.sigma.detach())
    points = alpha * torch.arange(-2, 2, dtype=torch.float64)
    apart = (points - found.x.double()[:, None]) / sigma
    mass = torch.sigmoid(apart + alpha / sigma / 2) - torch.sigmoid(apart - alpha / sigma / 2)
    mass /= mass.sum(-1, keepdim=True)
    mean = mass @ points
    deviation = (mass @ points**2 - mean**2).clamp_min(0).sqrt()
    off = (own.value.double() - mean) / (deviation / math.sqrt(draws)).clamp_min(1e-3)
    assert off.abs().max() < 5
    assert abs(off.mean()) < 0.3
    assert (own.value_band[0] <= own.value).all()
    assert (own.value <= own.value_band[1]).all()


def test_masks_that_a_layer_shares_are_drawn_again_for_each_draw():
    """DropBits returns fewer points in some draws, so that the mean leaves the hard curve, and none outside of it."""
    quantizer, values = calibrated("dropbits", "weight", 3)
    found = transfer.transfer(quantizer, values)
    own = found.trained[transfer.ALWAYS]
    assert found.is_random
    assert not torch.allclose(own.value, found.hard.value, atol=1e-3)
    assert set(own.value_band.flatten().tolist()) - set(found.hard.value.tolist()) != set(own.value.tolist())


def test_the_quantizer_stays_as_it_is():
    quantizer, values = calibrated("rq temperature_end=0.5", "weight")
    quantizer.train()
    quantizer.noise.go_to(7)
    quantizer.anneal(Progress(3, 9, 1, 3))
    before, key = copy.deepcopy(quantizer.state_dict()), quantizer.noise.key.clone()
    state = torch.get_rng_state()
    transfer.transfer(quantizer, values)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert (quantizer.training, quantizer.noise.step) == (True, 7)
    assert torch.equal(quantizer.noise.key, key)
    assert torch.equal(torch.get_rng_state(), state)


def test_of_ranges_by_channel_the_first_channel_is_shown():
    shape = (4, 8, 3, 3)
    weight = methods.sample("weight", *shape) * torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)
    quantizer = methods.build("ste granularity=channel", "weight", 2, shape=shape)
    found = transfer.transfer(quantizer, weight, moments={})
    assert set(found.x.tolist()) <= set(weight[0].flatten().tolist())
    assert len(found.hard.value.unique()) == 4


def test_the_numbers_are_those_of_the_chart_and_the_same_twice():
    quantizer, values = calibrated("rq", "weight")

    def chart():
        return Chart("", transfer.transfer_panels(transfer.transfer(quantizer, values), "weights", x_label="x"))

    first = chart()
    text = numbers_csv(first)
    assert text == numbers_csv(chart())
    rows = list(csv.DictReader(io.StringIO(text)))
    for panel in first.panels:
        for mark in panel.marks:
            own = [row for row in rows if (row["panel"], row["series"]) == (panel.title, mark.label)]
            if isinstance(mark, Band):
                found = [(row["x"], row["low"], row["high"]) for row in own if row["low"]]
                expected = zip(mark.x, mark.low, mark.high, strict=True)
            else:
                found = [(row["x"], row["y"]) for row in own if row["y"]]
                expected = zip(mark.x, mark.y, strict=True)
            assert [tuple(map(float, row)) for row in found] == list(expected)
