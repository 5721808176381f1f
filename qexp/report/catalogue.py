"""The figures that `qexp plot` draws, each made by a module of its own, which is imported when it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from qexp.figures import Chart
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line, suggest

# Options that are one of some words, the default first.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("last", "best"),
    "interval": ("s", "t"),
    "norm": ("batch", "running"),
    "x": ("bits", "size", "bops"),
}
Takes = Literal["METHOD", "RUN", "RUNS", "RUN or random", "nothing"]


@dataclass(frozen=True)
class Request:
    """What is to be drawn.

    Attributes:
        words: behind the figure's name: a method, a run, or the words that select runs as `qexp runs` takes them.
        options: of the figure, as the user wrote them; those that are not there have their defaults.
        root: the run store.
        data_dir: where data sets lie; None for the usual place.
        config_dir: the user's own folder of options, as of `qexp train`; None for none.
    """

    words: Sequence[str]
    options: Mapping[str, str]
    root: Path
    data_dir: str | None = None
    config_dir: str | None = None

    def choice(self, key: str) -> str:
        """Return an option that is one of some words, its default where it is not there; raise UsageError."""
        known = CHOICES[key]
        found = self.options.get(key, known[0])
        if found not in known:
            raise UsageError(f"{key}={one_line(found)}: must be {' or '.join(known)}{suggest(found, known)}")
        return found


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
    "extent": "how far the weights move along each direction, in lengths of their filters (1)",
    "points": "of the grid along each direction, an odd number (21)",
    "images": "of the test set, the first, in one batch (128)",
    "seed": "of the directions, and of the weights of a random network (0)",
    "norm": "statistics of batch norm: batch, of these images, or running, those of a run (batch)",
    "device": "auto, cpu, cuda or mps (auto)",
    "dataset": "of a random network (cifar10)",
    "model": "of a random network (resnet18)",
    "width": "of a random network, a factor on its channels (0.25 of resnet18)",
    "keep_float": "of a random network, layers left float: none, or names as in qexp train (none)",
}
_OF_NETWORK = MappingProxyType({"checkpoint": "last or best (last)"})

FIGURES: tuple[Figure, ...] = (
    Figure(
        "transfer",
        "a quantizer's function and gradient, weights and inputs, soft and hard; METHOD may be all",
        *("METHOD", "transfer_figure"),
        MappingProxyType({"bits": "of weights and inputs (default_bits of the method)"}),
    ),
    Figure("error", "the error of mixed weights against temperature (DQA paper, Figure 2)", "nothing", "error_figure"),
    Figure(
        "attention",
        "the share of each grid over the training, and what the mix makes of a weight; or learned widths",
        *("RUN", "attention_figure"),
        MappingProxyType({**_OF_NETWORK, "layer": "whose mix is shown (the first)"}),
    ),
    Figure("curves", "loss and top-1 over epochs; a band where runs differ in the seed alone", "RUNS", "curves_figure"),
    Figure("gap", "top-1 of the soft network minus that of the hard one, over epochs", "RUNS", "gap_figure"),
    Figure(
        "flips",
        "the share of weights that change level, and that turn back, per step and epoch",
        "RUNS",
        "flips_figure",
    ),
    Figure(
        "bits",
        "accuracy against bits, size or bit operations: runs, means with intervals, float as a line",
        "RUNS",
        "bits_figure",
        MappingProxyType(
            {
                "x": "bits, size (kB of all parameters) or bops (bit operations for one image) (bits)",
                "interval": "s, the sample standard deviation, or t, a 95 % interval of the mean (s)",
            }
        ),
    ),
    Figure(
        "weights",
        "a histogram of each layer's weights, on its levels",
        "RUN",
        "weights_figure",
        MappingProxyType({**_OF_NETWORK, "layers": "parts of the names of layers, with commas (all)"}),
    ),
    Figure("crowd", "how many weights lie how near to a threshold", "RUN", "crowd_figure", _OF_NETWORK),
    Figure("layers", "width, size and quantization error of each layer", "RUN", "layers_figure", _OF_NETWORK),
    Figure(
        "surface",
        "the loss around weights along two random directions: float, mixed and 2-bit (DQA, Figure 4)",
        "RUN or random",
        "surface_figure",
        MappingProxyType(_OF_SURFACE),
    ),
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
