"""Figure 2 of the DQA paper, beside an independent computation and beside its limits."""

import pytest
import torch

from qexp.figures.chart import Band, Curve, Dots
from qexp.figures.mixing_error import BR_MIX, DQA_MIX, SAMPLES, mixing_error_chart, mixing_errors, temperatures
from qexp.quantizers.grids import make_mix

of_both = pytest.mark.parametrize("mix", [BR_MIX, DQA_MIX], ids=["BR", "DQA"])


@pytest.fixture(scope="module")
def weights():
    return torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))


@of_both
def test_the_errors_are_those_that_were_computed_independently(mix, weights):
    """But for one factor, the range of their samples, which the two most extreme of 200,000 decide."""
    at, expected = zip(*mix.computed.items(), strict=True)
    found = mixing_errors(mix, weights, at)
    ratios = [own / other for own, other in zip(found, expected, strict=True)]
    assert ratios == pytest.approx([ratios[-1]] * len(ratios), rel=2e-3)  # three digits are printed
    assert ratios[-1] == pytest.approx(1, abs=0.06)


@of_both
def test_hot_it_is_the_plain_average_and_cold_the_lowest_grid(mix, weights):
    members = make_mix(mix.entries, of_weights=True, sawb="search")
    grids = [member.grid.scaled(member.range_estimator(weights)).to_levels(weights) for member in members]
    average = sum(grids) / len(grids)
    hot, cold = mixing_errors(mix, weights, [1e6, 1e-3])
    assert hot == pytest.approx(float((weights - average).abs().mean()), rel=1e-4)
    assert cold == pytest.approx(float((weights - grids[0]).abs().mean()), rel=1e-4)


def test_dqa_has_less_error_than_br_at_every_temperature(weights):
    """The claim of the figure; at the lowest temperatures both are the 2-bit grid."""
    at = temperatures()
    both = (mixing_errors(mix, weights, at) for mix in (DQA_MIX, BR_MIX))
    for temperature, dqa, br in zip(at, *both, strict=True):
        assert dqa < br or (temperature < 0.05 and dqa == pytest.approx(br, rel=1e-3))


def test_the_chart_says_whose_the_hollow_points_are(monkeypatch):
    monkeypatch.setattr("qexp.figures.mixing_error.SEEDS", range(2))
    monkeypatch.setattr("qexp.figures.mixing_error.SAMPLES", 20_000)
    chart = mixing_error_chart()
    (panel,) = chart.panels
    for mix in (BR_MIX, DQA_MIX):
        band, line = (mark for mark in panel.marks if mark.label == mix.label)
        assert (type(band), type(line), panel.x_scale) == (Band, Curve, "log")
        assert all(low <= y <= high for low, y, high in zip(band.low, line.y, band.high, strict=True))
    dots = [mark for mark in panel.marks if isinstance(mark, Dots)]
    assert [dict(zip(mark.x, mark.y, strict=True)) for mark in dots] == [BR_MIX.computed, DQA_MIX.computed]
    assert all(mark.is_hollow and "independently" in mark.label for mark in dots)
    assert any("prints no numbers" in line for line in chart.caption)
