"""What a person sees of a training on a terminal."""

import io

import pytest
import torch
from rich.console import Console

from qexp.tracking.console import ProgressBar
from qexp.utils.callback import StepRecord


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_fits_its_terminal_and_cuts_nothing(width: int) -> None:
    """On 80 columns the time since the start has no room, and was cut to `0:00:...` with what is left."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    bar = ProgressBar(console, epochs=300, steps=1000)
    try:
        bar.gauge.shown -= 1.0
        bar.gauge.images = 12_000
        bar.step(StepRecord(500, 1000, 7, 64, torch.tensor(12.3456), {}))
        bar.bar.update(bar.task, top1="77.50 %")
        shown = console.render_lines(bar.bar.get_renderable(), pad=False)
    finally:
        bar.close()
    (line,) = ["".join(segment.text for segment in one) for one in shown]
    assert len(line) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in line
    for words in ("epoch 8/300", "50%", "loss 12.346", "test 77.50 %", "images/s", "left"):
        assert words in line
