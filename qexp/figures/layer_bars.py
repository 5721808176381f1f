"""The layers of a network side by side: their widths, their sizes, and how far their weights are moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from qexp.figures.chart import Chart, Dots, Panel

MOST_NAMES = 36  # of layers at an axis
MOST_LETTERS = 26  # of a name there


@dataclass(frozen=True)
class LayerRow:
    """What a layer is.

    Attributes:
        name: in the network.
        weights: how many.
        weight_bits: 32 for float, as the next one.
        input_bits: of its inputs.
        error: root of sum (w - Q(w))^2 / sum w^2 of the hard network; None where the weights are float.
    """

    name: str
    weights: int
    weight_bits: int
    input_bits: int
    error: float | None

    @property
    def kilobytes(self) -> float:
        """Of its weights at their bits, in units of 1,000 bytes; scales and biases are not counted."""
        return self.weights * self.weight_bits / 8000


def layers_chart(title: str, rows: Sequence[LayerRow], caption: Sequence[str] = ()) -> Chart:
    """Return width, size and quantization error of each layer, in the order of the network.

    Args:
        title: of the chart.
        rows: a layer each, at least one.
        caption: lines to be said below.
    """
    places, notes = [float(at) for at in range(len(rows))], [row.name for row in rows]
    wrong = [(at, row.error, row.name) for at, row in zip(places, rows, strict=True) if row.error is not None]
    at_error, errors, error_notes = (list(column) for column in zip(*wrong, strict=True)) if wrong else ([], [], [])
    names, ends = _names(notes), (-0.7, len(rows) - 0.3)
    nameless, widths = dict.fromkeys(names, ""), [bits for row in rows for bits in (row.weight_bits, row.input_bits)]
    of_width = [
        Dots("weights", places, [row.weight_bits for row in rows], notes=notes),
        Dots("inputs", places, [row.input_bits for row in rows], notes=notes, is_hollow=True),
    ]
    of_size = [Dots("weights", places, [row.kilobytes for row in rows], notes=notes)]
    of_error = [Dots("weights", at_error, errors, notes=error_notes)]
    bits_named = {float(bits): str(bits) for bits in widths}
    panels = [
        Panel("width, 32 is float", "", "bits", of_width, "linear", "log", ends, None, nameless, bits_named),
        Panel("size of the weights", "", "kB", of_size, "linear", "log", ends, None, nameless),
        Panel("quantization error", "", "‖w - Q(w)‖ / ‖w‖", of_error, "linear", "linear", ends, None, names),
    ]
    return Chart(title, panels, 1, [_total(rows), *caption])


def _names(names: Sequence[str]) -> dict[float, str]:
    """Return the names for an axis, every second or third where there are too many."""
    step = -(-len(names) // MOST_NAMES)
    return {
        float(at): name if len(name) <= MOST_LETTERS else f"{name[:8]}...{name[11 - MOST_LETTERS :]}"
        for at, name in enumerate(names)
        if at % step == 0
    }


def _total(rows: Sequence[LayerRow]) -> str:
    weights, size = sum(row.weights for row in rows), sum(row.kilobytes for row in rows)
    return (
        f"{len(rows)} layers, {weights:,} weights, {size:,.1f} kB at these bits, {weights * 0.004:,.1f} kB as float32."
    )
