"""Charts as data, how they are drawn, and what of a network or of a training can be made a chart."""

from qexp.figures.chart import Band, Bars, Chart, Curve, Dots, Panel, Surface, is_numbers, numbers_csv
from qexp.figures.drawing import FORMATS, check_installed, is_drawn, render

__all__ = [
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
