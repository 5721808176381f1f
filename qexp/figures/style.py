"""How every figure looks, and matplotlib itself, loaded whatever the user's own settings of it are."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from qexp.utils.errors import UsageError

# Okabe and Ito's colours, which colour-blind readers tell apart, ordered so that neighbours differ in lightness; dashes
# and markers tell them apart in greyscale.
COLOURS = ("#000000", "#e69f00", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#8a8a8a")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (7, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

STYLE: dict[str, Any] = {
    **{"font.family": ["DejaVu Sans"], "font.size": 8.5, "axes.titlesize": 9, "figure.titlesize": 10.5},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "lines.linewidth": 1.4},
    **{"axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True},
    **{"legend.frameon": False, "legend.fontsize": 7.5, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5},
    **{"text.parse_math": False, "svg.hashsalt": "qexp", "svg.fonttype": "path", "pdf.fonttype": 42},
    **{"savefig.dpi": 150, "path.simplify": False, "axes.formatter.useoffset": False},
}


def check_installed() -> None:
    """Raise UsageError where matplotlib is not installed, so that nobody waits for numbers that are not drawn."""
    _loaded()


@contextmanager
def in_our_style(is_text: bool) -> Iterator[Any]:
    """Let the block draw in our style, whatever the user's own settings are; yields matplotlib's class of figures."""
    matplotlib = _loaded()
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {key: own for key, own in matplotlib.rcParamsDefault.items() if "backend" not in key}
    settings |= STYLE | ({"svg.fonttype": "none"} if is_text else {})
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a box stands for it
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)  # texts that have no room
        yield Figure


def _loaded() -> Any:
    """Return matplotlib, also where MPLBACKEND names what is not installed: no window is opened here."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        module = import_module("matplotlib")
        with suppress(ValueError):
            module.rcParams.update({} if backend is None else {"backend": backend})
    except ImportError:
        raise UsageError("figures need matplotlib: pip install 'qexp[plot]'") from None
    except ValueError as error:
        raise UsageError(f"matplotlib cannot be loaded, nor its settings, a matplotlibrc, read: {error}") from error
    finally:
        os.environ |= {} if backend is None else {"MPLBACKEND": backend}
    return module
