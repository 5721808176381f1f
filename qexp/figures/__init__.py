"""Charts as data, how they are drawn, and what of a network or of a training can be made a chart."""

from qexp.figures.chart import Band, Bars, Chart, Curve, Dots, Panel, Surface, numbers_csv

__all__ = ["Band", "Bars", "Chart", "Dots", "Curve", "Panel", "Surface", "numbers_csv"]
