"""`qexp plot surface RUN|random`: loss surfaces of float, mixed and 2-bit weights (DQA's Figure 4)."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.nn import functional as F

from qexp.config.compose import composing
from qexp.config.config import Config, parse_config, recorded_config
from qexp.config.schema import Invalid
from qexp.engine.metrics import without_tf32
from qexp.experiment.build import assemble
from qexp.experiment.library import method
from qexp.experiment.session import Session
from qexp.experiment.stored_network import stored_config
from qexp.experiment.threads import considerate_waits
from qexp.figures import Chart
from qexp.figures.surface import Form, loss_surfaces, norms_of_the_batch, random_direction, surface_chart, weights_as
from qexp.quantizers import Quantizer, has_running_statistics, quantized_layers
from qexp.report.catalogue import Request
from qexp.report.series import commits_note, name_of, selected_run
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line, printable

RANDOM = "random"
PLAIN = ("quantizer=ste", "weight_bits=2", "activation_bits=32", "keep_float=[]")
_OF_QUANTIZER = ("quantizer", "weight_bits", "activation_bits", "keep_float", "layer_bits")
OF_RANDOM = ("dataset", "model", "width", "keep_float")
ENDLESS = 1e30  # a temperature at which the attention is the same for all grids
FLOAT, MIXED, LOW, OWN = "float32", "2/4/8 bits mixed", "2 bits", "as trained"
T = TypeVar("T")


@dataclass(frozen=True)
class _Settings:
    extent: float
    points: int
    images: int
    seed: int
    norm: str

    @classmethod
    def read(cls, request: Request) -> "_Settings":
        """Return the options that are numbers, and of what batch norm is; raise UsageError."""
        options, norm = request.options, request.choice("norm")
        points = int(_number(options, "points", 21, 3, 201, is_whole=True))
        if points % 2 == 0:
            raise UsageError(f"points={points}: must be odd, so that the network itself is one of them")
        return cls(
            extent=_number(options, "extent", 1.0, 0.0001, 1000),
            points=points,
            images=int(_number(options, "images", 128, 2, 100_000, is_whole=True)),
            seed=int(_number(options, "seed", 0, 0, 2**32 - 1, is_whole=True)),
            norm=norm,
        )

    @property
    def coordinates(self) -> list[float]:
        half = self.points // 2
        return [self.extent * at / half for at in range(-half, half + 1)]


@dataclass(frozen=True)
class _Subject:
    """The network whose surroundings are shown.

    Attributes:
        session: with the network and its images.
        name: for the title.
        has_own_form: whether its weights were trained to be quantized, in a way of their own.
        notes: for the caption.
    """

    session: Session
    name: str
    has_own_form: bool
    notes: Sequence[str] = ()


def make(request: Request) -> Chart:
    """Return the loss surfaces around a run's weights, or those of a random network; raise UsageError."""
    settings = _Settings.read(request)
    is_random = list(request.words) == [RANDOM]
    try:
        subject = _random(request, settings) if is_random else _of_run(request)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    except (ValueError, RuntimeError, MemoryError) as error:  # options that do not fit the network, or it the memory
        raise UsageError(str(error) or type(error).__name__) from error
    session, model = subject.session, subject.session.model.eval().requires_grad_(False)
    _check_norm(model, settings.norm)
    images, labels = next(iter(session.data.test_batches(settings.images, device=session.device, workers=0).epoch(0)))
    draws = torch.Generator().manual_seed(settings.seed)
    directions = random_direction(model, draws), random_direction(model, draws)
    norms = norms_of_the_batch(model) if settings.norm == "batch" else nullcontext()
    with considerate_waits(), without_tf32(), norms:
        surfaces = loss_surfaces(
            model,
            directions,
            _forms(model, session.device, has_own=subject.has_own_form),
            lambda: float(F.cross_entropy(model(images).double(), labels)),
            settings.coordinates,
            each=partial(_with_bar, title="loss surface"),
        )
    caption = [*subject.notes, *_caption(settings, len(labels), session.config, is_random=is_random)]
    return surface_chart(f"Loss around {subject.name}", settings.coordinates, surfaces, caption)


def _random(request: Request, settings: _Settings) -> _Subject:
    """Return a network with random weights, which has quantizers so that they can be seen in other forms."""
    options = request.options
    kept = options.get("keep_float", "none")
    words = [
        f"dataset={options.get('dataset', 'cifar10')}",
        f"model={options.get('model', 'resnet18')}",
        *([f"model.width={options.get('width', 0.25)}"] if "width" in options or "model" not in options else []),
        *(*PLAIN, "init=scratch", f"seed={settings.seed}", f"keep_float=[{'' if kept == 'none' else kept}]"),
    ]
    with composing() as composer:
        job = composer.job(words)
        if job.config is None:
            raise Invalid(list(job.problems))
        config = parse_config({**job.tree, **_places(request)})
    return _Subject(Session(config, assemble(config)), f"a random {config.subject}", has_own_form=False)


def _of_run(request: Request) -> _Subject:
    """Return the network of a run with the weights that it ended with."""
    if wrong := [key for key in OF_RANDOM if key in request.options]:
        raise UsageError(f"{wrong[0]}=: is for a random network; a run has its own")
    entry = selected_run(request)
    shown, file = printable(entry.key), entry.path / "last.pt"
    if not file.is_file():
        raise UsageError(f"run {shown} has no last.pt: it is {entry.state}")
    recorded = stored_config(entry.path, f"qexp plot surface {shown}")
    config = recorded_config({**recorded.tree, **_places(request)})
    if config.is_float:  # its layers need quantizers, to be seen in other forms
        with composing() as composer:
            usual = composer.job(PLAIN).tree
        config = recorded_config({**config.tree, **{key: usual[key] for key in _OF_QUANTIZER}})
    session = Session(config, assemble(config), checkpoint_file=file)
    return _Subject(session, name_of(entry), has_own_form=not recorded.is_float, notes=commits_note([entry]))


def _places(request: Request) -> dict[str, Any]:
    """Return the options of a configuration that say where a figure is computed."""
    root, device = str(request.root), request.options.get("device", "auto")
    return {"data_dir": request.data_dir, "runs_dir": root, "device": device, "threads": 0, "workers": 0}


def _check_norm(model: nn.Module, norm: str) -> None:
    """Raise UsageError for statistics that weights of another form than the run's own do not fit."""
    is_scaled = any(layer.output_scale is not None for _, layer in quantized_layers(model))
    if is_scaled and not (norm == "batch" and has_running_statistics(model)):
        raise UsageError(
            "the layers of this run scale what they put out, for weights of their own form alone: the other forms can "
            "be compared only by norm=batch, in a network with batch norm"
        )


def _forms(model: nn.Module, device: torch.device, *, has_own: bool) -> dict[str, Form]:
    """Return in what forms the weights are shown: those of Figure 4, and that of the run."""
    plain = _quantizer("ste", device)
    mixed = _quantizer("dqa", device, temperature_start=ENDLESS)
    forms: dict[str, Form] = {
        FLOAT: lambda: weights_as(model, lambda weight: weight),
        MIXED: lambda: weights_as(model, mixed),
        LOW: lambda: weights_as(model, plain),
    }
    return {**forms, OWN: nullcontext} if has_own else forms


def _quantizer(name: str, device: torch.device, **options: Any) -> Quantizer:
    """Return a quantizer of 2 bits on min-max grids, as it is while training."""
    made = method(name, grid="minmax", granularity="tensor", **options).weight(2)
    made.evaluation = "soft"
    return made.requires_grad_(False).eval().to(device)


def _with_bar(items: Sequence[T], title: str) -> Iterable[T]:
    """Yield `items`; on a terminal a bar shows how far it is."""
    if not sys.stderr.isatty():
        return items
    return track(items, title, console=Console(stderr=True), transient=True)


def _caption(settings: _Settings, images: int, config: Config, *, is_random: bool) -> list[str]:
    if is_random:
        kept = f"float: {', '.join(config.keep_float)}" if config.keep_float else "all layers quantized"
        what = f"Weights and directions of seed {settings.seed}; {kept}, inputs float"
    else:
        what = f"Directions of seed {settings.seed}; inputs of layers and float layers as in the run"
    norm = "the statistics of these images" if settings.norm == "batch" else "the running statistics of the run"
    return [
        f"Cross-entropy on the first {images:,} test images; batch norm uses {norm}.",
        f"{what}. Min-max grids per tensor, of the moved weights; mixed: a third each.",
        f"Directions are filter-normalized, {settings.points} x {settings.points} points, extent {settings.extent:g}.",
    ]


def _number(
    options: Mapping[str, str], name: str, usual: float, low: float, high: float, *, is_whole: bool = False
) -> float:
    """Return an option as a number; raise UsageError."""
    text = options.get(name, str(usual))
    try:
        value = int(text) if is_whole and name in options else float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        kind = "a whole number" if is_whole else "a number"
        raise UsageError(f"{name}={one_line(text)}: must be {kind} from {low:g} to {high:,.10g}")
    return value
