"""Histograms of weights on their levels, against numpy and the levels that the formulas give."""

import numpy as np
import pytest
import torch

from qexp.figures.weights import BINS, weights_chart, weights_panel
from qexp.quantizers import DAQ, STE
from support import methods


def plain(granularity: str = "tensor") -> STE:
    return methods.method("ste", grid="minmax", granularity=granularity)


def test_the_histogram_is_numpys_and_the_guides_are_the_levels() -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(3))
    quantizer = plain().weight(2)
    quantizer.calibrate(weight)
    panel = weights_panel("conv", weight, quantizer)
    values = weight.double().numpy().ravel()
    counts, edges = np.histogram(values, BINS, (values.min(), values.max()))
    (bars,) = panel.marks
    assert panel.title == "conv, 2 bits"
    assert bars.heights == pytest.approx(100 * counts / len(values))
    assert bars.edges == pytest.approx(edges)
    low, high = float(weight.min()), float(weight.max())
    assert panel.guides == pytest.approx([low + (high - low) * at / 3 for at in range(4)], rel=1e-6)


def test_levels_stand_in_the_units_of_the_weight() -> None:
    """DAQ gives out values in -1 .. 1; on the axis of the weight its lowest level is at mean + lower * deviation."""
    weight = 0.02 * torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(4)) + 0.001
    quantizer = DAQ(
        weight_sigma=1.0, weight_gamma=2.0, activation_sigma=2.0, activation_gamma=2.0, granularity="tensor"
    ).weight(2)
    guides = weights_panel("conv", weight, quantizer).guides
    mean, deviation = weight.double().mean().item(), weight.double().std().item()
    assert guides == pytest.approx([mean + at * deviation for at in (-3, -1, 1, 3)], rel=1e-3)


def test_channels_with_levels_of_their_own_are_drawn_in_steps() -> None:
    weight = (
        torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(5))
        * torch.tensor([1.0, 10, 100, 0.1])[:, None, None, None]
    )
    from qexp.quantizers import LayerInfo

    quantizer = plain("channel").weight(2, LayerInfo(channel_shape=(4, 1, 1, 1)))
    quantizer.calibrate(weight)
    panel = weights_panel("conv", weight, quantizer)
    assert (list(panel.guides), panel.x_label) == ([0.0, 1.0, 2.0, 3.0], "position, in steps of the channel")
    rows = weight.flatten(1).double().numpy()
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    counts, _ = np.histogram((rows - low) / (high - low) * 3, BINS, (0, 3))
    assert np.abs(np.array(panel.marks[0].heights) - 100 * counts / rows.size).max() <= 100 * 4 / rows.size + 1e-9


@pytest.mark.parametrize("name", [name for name in methods.NAMES if name != "fp"])
def test_every_method_has_a_panel_whose_bars_are_all_weights(name: str) -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(6))
    quantizer = methods.method(name).weight(methods.usual_bits(name))
    quantizer.calibrate(weight)
    panel = weights_panel("conv", weight, quantizer.eval())
    assert sum(panel.marks[0].heights) == pytest.approx(100)
    assert 2 <= len(panel.guides) <= 16
    assert list(panel.guides) == sorted(panel.guides)


def test_weights_that_are_all_the_same_or_not_finite_are_drawn_as_far_as_they_can_be() -> None:
    quantizer = plain().weight(2)
    zeros = weights_panel("conv", torch.zeros(4, 4), quantizer)
    assert sum(zeros.marks[0].heights) == pytest.approx(100)
    some = torch.tensor([1.0, 2.0, float("nan"), float("inf"), -1.0])
    quantizer.calibrate(some[:2])
    found = weights_panel("conv", some, quantizer)
    assert found.title == "conv, 2 bits, 2 not finite"
    assert weights_panel("conv", torch.full((3,), float("nan")), quantizer).marks == []


def test_a_chart_has_a_panel_for_each_layer() -> None:
    weight, quantizer = torch.randn(4, 4), plain().weight(2)
    quantizer.calibrate(weight)
    chart = weights_chart("all", [(f"layer{at}", weight, quantizer) for at in range(6)], ["said"])
    assert [panel.title for panel in chart.panels] == [f"layer{at}, 2 bits" for at in range(6)]
    assert (chart.columns, chart.caption[-1]) == (4, "said")
