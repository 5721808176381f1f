"""Configuration -> the objects of a run: dataset, model, method, network, training step, on their device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from qexp import quantizers
from qexp.config.config import Config, Recipe
from qexp.config.places import file_digest, starting_checkpoint
from qexp.config.run_widths import exactly
from qexp.config.schema import Invalid, Problem, attempt
from qexp.config.trust import is_own
from qexp.data.datasets import Source
from qexp.engine import weights
from qexp.engine.average import WeightAverage
from qexp.engine.optim import Optimizers
from qexp.engine.schedules import Schedule, cosine, make_schedule
from qexp.engine.step import Step, cross_entropy
from qexp.experiment.named_parts import resolve
from qexp.experiment.own_parts import check_source
from qexp.models import pretrained
from qexp.utils.errors import UsageError
from qexp.utils.text import few


@dataclass(frozen=True)
class Parts:
    """What a configuration names, checked but not yet built."""

    source: Source
    build_model: Callable[[], nn.Module]
    method: quantizers.Method


def build_source(config: Config) -> Source:
    """Return the dataset's source; raise Invalid."""
    target, options = resolve(config.dataset, "dataset")
    source = cast(Source, target(**options))
    if is_own(config.dataset.target):
        check_source(source, config.dataset.target)
    return source


def build_method(config: Config) -> quantizers.Method:
    """Return the method, checked for the bit-widths it is to have; raise Invalid."""
    target, options = resolve(config.quantizer, "quantizer")
    try:
        method: quantizers.Method = target(**options)
        method.check(config.weight_bits, config.activation_bits)
        quantizers.check_method(method, config.weight_bits, config.activation_bits)
        if isinstance(method, quantizers.FP) != config.is_float:
            raise ValueError("only the float network is called fp")
    except ValueError as error:
        bits = f"weight_bits={config.weight_bits} activation_bits={config.activation_bits}"
        raise Invalid([Problem(f"quantizer={config.quantizer.name} with {bits}", str(error))]) from error
    return method


def assemble(config: Config) -> Parts:
    """Return the parts of a run.

    Raises:
        Invalid: with every problem of every part.
    """
    problems: list[Problem] = []
    source = attempt(problems, lambda: build_source(config))
    model = attempt(problems, lambda: resolve(config.model, "model"))
    method = attempt(problems, lambda: build_method(config))
    if source is None or model is None or method is None:
        raise Invalid(problems)
    build, options = model
    return Parts(source, partial(build, source.classes, source.channels, source.image_size, **options), method)


def starting_file(config: Config) -> Path | None:
    """Return the checkpoint that `init` names, None for `fp` and `scratch`.

    Raises:
        UsageError: it is gone, or another one than when the command was checked.
    """
    if config.init == "torchvision":
        return pretrained.fetch(config.model.name)
    path = starting_checkpoint(config.init, config.runs_dir)
    if path is not None and file_digest(path) != config.start_digest:
        raise UsageError(f"init={config.init}: {path} has changed since the command was checked; start it again")
    return path


def build_network(config: Config, parts: Parts) -> nn.Module:
    """Return the quantized network of a configuration, with random weights; raise as `build_covered`."""
    return build_covered(config, parts)[0]


def build_covered(
    config: Config,
    parts: Parts,
    state: Mapping[str, Tensor] | None = None,
    *,
    model: nn.Module | None = None,
    source: str = "",
    load: Callable[[nn.Module, Mapping[str, Tensor], str], None] = weights.load_into,
) -> tuple[nn.Module, quantizers.Coverage]:
    """Return the quantized network of a configuration, and what of it is quantized.

    Args:
        config: of the run.
        parts: of the run.
        state: a state dict to begin with: that of a float network is loaded before quantization, else after it.
        model: the float network, changed in place; None builds it.
        source: where `state` comes from, for messages.
        load: what to do with `state`; `weights.check_fits` only compares.

    Raises:
        UsageError: `state` does not fit.
        ValueError: options that do not fit the network.
    """
    is_quantized = state is not None and weights.holds_quantizers(state)
    model = model or parts.build_model()
    if state is not None and not is_quantized:
        load(model, _as_today(state, model), source)
    coverage = _quantized(model, config, parts)
    if state is not None and is_quantized:
        load(model, weights.named_as(model.state_dict().keys(), state), source)
    return model, coverage


def _quantized(model: nn.Module, config: Config, parts: Parts) -> quantizers.Coverage:
    """Quantize a float model in place; raise ValueError, which names the run whose widths do not fit, if any."""
    try:
        coverage = quantizers.quantize(
            model,
            parts.method,
            weight_bits=config.weight_bits,
            activation_bits=config.activation_bits,
            keep_float=config.keep_float,
            layer_bits=config.layer_bits,
            seed=config.seed,
            sample=torch.zeros(1, parts.source.channels, parts.source.image_size, parts.source.image_size),
        )
    except ValueError as error:
        if config.widths_of is None or "layer_bits " not in str(error):
            raise
        raise ValueError(f"layer_bits={config.widths_of}: with the widths of that run, {error}") from error
    told = {entry.rpartition(":")[0] for entry in config.layer_bits}
    missing = [one.name for one in coverage.layers if f"{exactly(one.name)}:weight" not in told]
    if config.widths_of is not None and missing:
        raise ValueError(f"layer_bits={config.widths_of}: that run tells no widths of {few(missing)}")
    return coverage


def load_float(parts: Parts, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """Return the float network with these weights; raise UsageError where they do not fit."""
    weights.load_into(model := parts.build_model(), _as_today(state, model), source)
    return model


def _as_today(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `state` under the names of `model`, with the batch counters of batch normalisation, where it has none.

    Weights from before torch 0.4.1, torchvision's ResNets among them, may lack them; torch would add them as well.
    """
    own = model.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith(".num_batches_tracked")}
    return {**counters, **weights.named_as(own.keys(), state)}


def make_step(
    model: nn.Module, recipe: Recipe, *, compiled: bool = False, own_schedule: Schedule | None = None
) -> Step:
    """Return the training step of a recipe; call it when the model is on its device and calibrated.

    Args:
        model: the network.
        recipe: how to train it.
        compiled: let torch.compile fuse the network and the penalty, one graph for each size of batch.
        own_schedule: of the learning rates, in place of the one that the recipe names.
    """
    penalty: Callable[[], Tensor | float] = partial(quantizers.penalty, model)
    if compiled:
        model.compile(dynamic=False)
        if isinstance(penalty(), Tensor):
            penalty = torch.compile(penalty, dynamic=False)
    schedules: list[Callable[[float], None]] = []
    rates = make_schedule(recipe.schedule, own_schedule)
    return Step(
        model,
        criterion=cross_entropy(recipe.label_smoothing),
        optimizers=Optimizers(quantizers.parameter_roles(model), recipe.optimizer, rates),
        penalty=_dampened(penalty, model, recipe.dampening, schedules) if recipe.dampening else penalty,
        freezing=_freezing(model, recipe.freezing, schedules) if recipe.freezing else None,
        schedules=schedules,
        precision=recipe.precision,
        accumulate=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        average=WeightAverage(model, recipe.ema) if recipe.ema else None,
        cached_weights=partial(quantizers.cached_weights, model),
        begin_part=partial(quantizers.begin_part, model),
    )


def _dampened(
    penalty: Callable[[], Tensor | float], model: nn.Module, last: float, schedules: list[Callable[[float], None]]
) -> Callable[[], Tensor | float]:
    """Return a penalty with dampening, whose strength rises from 0 to `last`."""
    dampening = quantizers.Dampening(model)
    schedules.append(lambda done: setattr(dampening, "strength", cosine(done, 0.0, last)))
    return lambda: penalty() + dampening()


def _freezing(model: nn.Module, last: float, schedules: list[Callable[[float], None]]) -> quantizers.Freezing:
    """Return what freezes weights, with a threshold that falls to `last`."""
    freezing = quantizers.Freezing(model)
    first = quantizers.FIRST_THRESHOLD
    schedules.append(lambda done: setattr(freezing, "threshold", cosine(done, first, last)))
    return freezing
