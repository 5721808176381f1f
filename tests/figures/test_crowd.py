"""The crowd at the thresholds: counts against numpy, the even density against its formula."""

import numpy as np
import pytest
import torch

from qexp.figures.crowd import GRID, crowd_chart


def test_counts_are_those_within_each_distance_beside_an_even_density() -> None:
    draws = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 2
    distances = {"conv1": draws[:900], "conv2": torch.cat([draws[900:], torch.tensor([1e-7, 3e-6, torch.inf])])}
    chart = crowd_chart("crowd", distances)
    measured, even = chart.panels[0].marks
    every = np.concatenate([own.numpy() for own in distances.values()])
    assert list(measured.y) == [int((every <= within).sum()) for within in GRID]
    share = (every <= 0.01).sum() / 0.01
    assert list(even.y) == pytest.approx([share * within for within in GRID])
    assert (GRID[0], GRID[-1], len(GRID)) == (pytest.approx(5e-9), 0.5, 81)


def test_the_caption_counts_as_firmness_does_and_names_the_worst_layer() -> None:
    distances = {
        "conv1": torch.full((98,), 0.005, dtype=torch.float64),
        "conv2": torch.tensor([1e-7, 5e-6], dtype=torch.float64),
    }
    told = crowd_chart("crowd", distances, ["said"]).caption
    assert told == [
        "100 quantized weights.",
        "Within 1e-06 steps: 1, where an even density gives 0.01; most of them in conv2, 1 of 2.",
        "Within 1e-05 steps: 2, where an even density gives 0.1; most of them in conv2, 2 of 2.",
        "said",
    ]


def test_a_network_without_weights_near_a_threshold_is_drawn_too() -> None:
    chart = crowd_chart("crowd", {"conv": torch.full((3,), torch.inf)})
    assert set(chart.panels[0].marks[0].y) == {0}
    assert chart.caption[1] == "Within 1e-06 steps: 0, where an even density gives 0."
