"""The figures that `qexp plot` draws, each made by a module of its own, which is imported when it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from qexp.figures import Chart
from qexp.utils.errors import UsageError
from qexp.utils.text import suggest

Takes = Literal["METHOD", "RUN", "RUNS", "RUN or random", "nothing"]


@dataclass(frozen=True)
class Request:
    """What is to be drawn.

    Attributes:
        words: behind the figure's name: a method, a run, or the words that select runs as `qexp runs` takes them.
        options: of the figure, as the user wrote them; those that are not there have their defaults.
        root: the run store.
        data_dir: where data sets lie; None for the usual place.
    """

    words: Sequence[str]
    options: Mapping[str, str]
    root: Path
    data_dir: str | None = None


@dataclass(frozen=True)
class Figure:
    """One figure of the catalogue.

    Attributes:
        name: its word.
        summary: what it shows, in a line.
        takes: what its words are.
        module: in this folder; it has `make(request) -> Chart`, which raises UsageError for what cannot be drawn.
        options: name -> what it does, with its default.
    """

    name: str
    summary: str
    takes: Takes
    module: str
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_OF_SURFACE = {
    "extent": "how far the weights move along each direction, whose filters are as long as theirs (1)",
    "points": "of the grid along each direction, an odd number (21)",
    "images": "of the test set, the first, in one batch (128)",
    "seed": "of the directions, and of the weights of a random network (0)",
    "norm": "what batch norm uses: batch, the statistics of these images, or running, those of a run (batch)",
    "device": "auto, cpu, cuda or mps (auto)",
    "dataset": "of a random network (cifar10)",
    "model": "of a random network (resnet18)",
    "width": "of a random network, a factor on its channels (0.25 of resnet18)",
    "keep_float": "of a random network, layers that are left float: none, or names as in qexp train (none)",
}

FIGURES: tuple[Figure, ...] = (
    Figure(
        "surface",
        "the loss around weights along two random directions: float, mixed and 2-bit (DQA, Figure 4)",
        "RUN or random",
        "surface_figure",
        MappingProxyType(_OF_SURFACE),
    ),
    Figure("curves", "loss and top-1 over epochs; a band where runs differ in the seed alone", "RUNS", "curves_figure"),
    Figure("gap", "top-1 of the soft network minus that of the hard one, over epochs", "RUNS", "gap_figure"),
    Figure("flips", "the share of weights that change level, and that turn back, per epoch", "RUNS", "flips_figure"),
)


def figure(name: str) -> Figure:
    """Return the figure of a name; raise UsageError."""
    for one in FIGURES:
        if one.name == name:
            return one
    names = [one.name for one in FIGURES]
    raise UsageError(f"no figure '{name}'{suggest(name, names)}; there are {', '.join(names)}")


def make_chart(name: str, request: Request) -> Chart:
    """Return a figure as data; raises UsageError with one line for what cannot be drawn."""
    make: Callable[[Request], Chart] = import_module(f"qexp.report.{figure(name).module}").make
    return make(request)
