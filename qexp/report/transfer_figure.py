"""The figure `transfer`: what a method, or every method, makes of its input and of a gradient that comes back."""

from collections.abc import Sequence
from pathlib import Path

from qexp.config.compose import composing
from qexp.config.places import check_config_dir, choices, conf_dir
from qexp.config.yaml_files import load_yaml
from qexp.experiment.library import method
from qexp.figures.chart import Chart, Panel
from qexp.figures.transfer import DRAWS, EPOCHS, VALUES, Transfer, normal_quantiles, transfer, transfer_panels
from qexp.quantizers import FLOAT_BITS, Method
from qexp.report.catalogue import Request
from qexp.utils.errors import UsageError
from qexp.utils.files import found_below
from qexp.utils.text import one_line, suggest

ALL = "all"
FLOAT = "fp"
MOST_DIGITS = 10


def make(request: Request) -> Chart:
    """Return the chart of a method, or of all; raise UsageError."""
    if len(request.words) != 1:
        raise UsageError(f"transfer takes one method, or {ALL}")
    (name,) = request.words
    if name == FLOAT:
        raise UsageError(f"{FLOAT} is the float network: it has no quantizers")
    bits = _bits(request.options.get("bits"))
    known = _known(request.config_dir)
    if name not in (ALL, *known):
        raise UsageError(f"no method '{one_line(name)}'{suggest(name, known)}; there are {', '.join(known)}")
    methods = {own: _method(own, bits, request.config_dir) for own in (known if name == ALL else [name])}
    found = {own: _transfers(own, made, width) for own, (made, width) in methods.items()}
    widths = {own: width for own, (_, width) in methods.items()}
    panels = [panel for own, sides in found.items() for panel in _panels(own if name == ALL else "", *sides)]
    told = ", ".join(f"{own} {width}" for own, width in widths.items())
    title = f"What quantizers do to their input ({told} bits)" if name == ALL else f"{name}, {widths[name]} bits"
    both = [one for sides in found.values() for one in sides]
    scaled = [own for own, (made, _) in methods.items() if made.output_scale]
    return Chart(title, panels, columns=4 if name == ALL else 2, caption=_caption(both, scaled))


def _bits(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS):
        raise UsageError(f"bits={one_line(text)}: is no bit-width")
    return int(text)


def _known(config_dir: str | None) -> list[str]:
    """Return the methods that have quantizers: of qexp, and of a folder of the user's."""
    check_config_dir(config_dir)
    own = [] if config_dir is None else [path.stem for path in found_below(Path(config_dir), "quantizer/*.yaml")]
    return sorted({*choices("quantizer"), *own} - {FLOAT})


def _method(name: str, bits: int | None, config_dir: str | None) -> tuple[Method, int]:
    """Return a method, and its bit-width; one of the user's own is composed as a training composes it."""
    if config_dir is not None and name not in choices("quantizer"):
        return _own_method(name, bits, config_dir)
    width = int(load_yaml(conf_dir() / "quantizer" / f"{name}.yaml")["default_bits"]) if bits is None else bits
    return method(name), width


def _own_method(name: str, bits: int | None, config_dir: str) -> tuple[Method, int]:
    from qexp.experiment.build import build_method  # only here: the engine that it imports takes a second

    with composing(config_dir) as composer:
        job = composer.job([f"quantizer={name}", *([] if bits is None else [f"bits={bits}"])])
    if job.config is None:
        raise UsageError(str(job.problems[0]))
    try:
        return build_method(job.config), job.config.weight_bits
    except ValueError as error:
        raise UsageError(str(error)) from error


def _transfers(name: str, made: Method, width: int) -> tuple[Transfer, Transfer]:
    """Return the transfer functions of weights and inputs."""
    if width == FLOAT_BITS:
        raise UsageError(f"bits={width}: is float, and has no quantizer")
    try:
        made.check(width, width)
        quantizers = (made.weight(width), made.activation(width))
    except ValueError as error:
        raise UsageError(f"{name} {error}") from error
    values = normal_quantiles()
    sides = (values, values.relu())
    for quantizer, own in zip(quantizers, sides, strict=True):
        quantizer.calibrate(own)
    weights, inputs = (transfer(quantizer, own) for quantizer, own in zip(quantizers, sides, strict=True))
    return weights, inputs


def _panels(name: str, weights: Transfer, inputs: Transfer) -> Sequence[Panel]:
    begin = f"{name}, " if name else ""
    return [
        *transfer_panels(weights, f"{begin}weights", x_label="weight, in standard deviations"),
        *transfer_panels(inputs, f"{begin}inputs", x_label="layer input"),
    ]


def _caption(found: Sequence[Transfer], scaled: Sequence[str]) -> list[str]:
    lines = [
        f"Calibrated on {VALUES:,} evenly spaced quantiles of the standard normal distribution, inputs on the same "
        "after a ReLU; ranges are those of this tensor. Vertical lines: thresholds.",
        "What training makes of a value is drawn where it is not always the evaluated one.",
    ]
    if any(len(one.trained) > 1 for one in found):
        lines.append(
            f"Schedules at the first step, the middle and the last step of {EPOCHS} epochs; nothing is trained."
        )
    if any(one.is_random for one in found):
        lines.append(f"Random in training: the mean of {DRAWS} draws, and the band from 5 to 95 %.")
    if scaled:
        lines.append(f"A layer multiplies by a learned scale, which is 1 here: {', '.join(scaled)}.")
    return lines
