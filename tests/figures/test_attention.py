"""How layers come by their bit-widths, from what they reported."""

import pytest
import torch

from qexp.figures.attention import attention_chart, course_of, mixed_layer, mixed_panel, moments, widths_chart
from qexp.figures.chart import Curve, Dots
from qexp.utils.types import Progress
from support import methods

EPOCHS = 8


def trained(name, **changes):
    """A weight, its quantizer, and what this reported in each epoch."""
    quantizer, weight = methods.build(name, "weight", 2, **changes).train(), methods.sample("weight")
    reports = {}
    for epoch in range(EPOCHS):
        quantizer.anneal(Progress(epoch + 1, EPOCHS, epoch, EPOCHS))
        reports[epoch] = {f"a/weight/{key}": float(value) for key, value in quantizer.stats().items()}
    return weight, quantizer, reports


@pytest.mark.parametrize("name", ["dqa", "br", "br mix=[minmax@2,fp]", "dqa grid=sawb", "dqa granularity=channel"])
def test_the_mixed_weight_is_what_the_quantizer_returns(name):
    """At the end of its training, where ranges and attention are those that the quantizer has."""
    weight, quantizer, reports = trained(name)
    quantizer.calibrate(weight)
    layer = mixed_layer("a", weight, quantizer, reports)
    assert layer.shares[EPOCHS - 1] == pytest.approx(quantizer.mixing_weights().tolist(), abs=1e-6)
    last = mixed_panel(layer).marks[-1]
    values = torch.tensor(last.x)
    if "channel" in name:  # of the first channel, whose range is that of these values
        values = values.expand(8, -1)[:, :, None, None]
    made = quantizer(values).detach()
    made = made[0].flatten() if "channel" in name else made
    assert last.label == f"epoch {EPOCHS - 1}"
    assert last.y == pytest.approx(made.tolist(), abs=1e-6)


def test_a_layer_without_a_mix_has_none():
    weight, quantizer, reports = trained("ste")
    assert mixed_layer("a", weight, quantizer, reports) is None
    weight, quantizer, reports = trained("dqa")
    assert mixed_layer("b", weight, quantizer, reports) is None


def test_what_is_no_number_is_left_out():
    reports = {0: {"x": 1}, 1: {"x": float("nan")}, 2: {"x": "2"}, 3: {}, 4: {"x": True}, 5: {"x": 0.5}}
    assert course_of(reports, "x") == {0: 1.0, 5: 0.5}


def test_moments_are_the_quarters():
    assert moments(range(301)) == [0, 75, 150, 225, 300]
    assert moments([0, 1, 2]) == [0, 1, 2]
    assert moments([7]) == [7]


def test_every_layer_has_its_share_of_the_lowest_grid():
    weight, quantizer, reports = trained("dqa")
    both = {epoch: own | {f"b{key[1:]}": value for key, value in own.items()} for epoch, own in reports.items()}
    layers = [mixed_layer(name, weight, quantizer, both) for name in "ab"]
    chart = attention_chart("t", layers[0], layers)
    shares, _, lowest = chart.panels
    assert [mark.label for mark in shares.marks] == ["2 bits", "4 bits", "8 bits"]
    assert [mark.note for mark in lowest.marks] == ["a", "b"]
    expected = [reports[epoch]["a/weight/attention_0"] for epoch in range(EPOCHS)]
    assert list(shares.marks[0].y) == list(lowest.marks[1].y) == expected
    assert sum(mark.y[3] for mark in shares.marks) == pytest.approx(1, abs=1e-6)


def test_learned_widths_are_those_of_every_layer():
    widths = {"a": {0: 4, 1: 4, 2: 3}, "b": {0: 4, 1: 3, 2: 2}}
    course, at_end = widths_chart("t", widths).panels
    lines = {mark.note: list(mark.y) for mark in course.marks if isinstance(mark, Curve) and mark.note}
    assert lines == {"a": [4, 4, 3], "b": [4, 3, 2]}
    assert list(course.marks[-1].y) == [4, 3.5, 2.5]
    (dots,) = at_end.marks
    assert isinstance(dots, Dots)
    assert (list(dots.y), list(dots.notes), list(at_end.x_names.values())) == ([3, 2], ["a", "b"], ["a", "b"])
