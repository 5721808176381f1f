"""Charts as data, how they are drawn, and what of a network or of a training can be made a chart."""

from qexp.figures.accuracy import INTERVALS, Interval, Measured, MethodLine, Subject, accuracy_chart
from qexp.figures.chart import Band, Bars, Chart, Curve, Dots, Panel, Surface, is_numbers, numbers_csv
from qexp.figures.crowd import crowd_chart
from qexp.figures.drawing import FORMATS, is_drawn, render
from qexp.figures.layer_bars import LayerRow, layers_chart
from qexp.figures.style import check_installed

__all__ = [
    "INTERVALS",
    "Interval",
    "LayerRow",
    "Measured",
    "MethodLine",
    "Subject",
    "accuracy_chart",
    "crowd_chart",
    "layers_chart",
    "FORMATS",
    "Band",
    "Bars",
    "Chart",
    "Curve",
    "Dots",
    "Panel",
    "Surface",
    "check_installed",
    "is_drawn",
    "is_numbers",
    "numbers_csv",
    "render",
]
