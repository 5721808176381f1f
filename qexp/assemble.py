"""Configuration -> parts: find what the configuration names, and check that it all fits before anything starts."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qexp import quantizers, runs, schema
from qexp.config import Config, Section
from qexp.data.datasets import Source
from qexp.engine import checkpoint
from qexp.errors import UsageError
from qexp.schema import Invalid, Problem


@dataclass(frozen=True)
class Parts:
    """What a configuration names, checked but not yet built."""

    source: Source
    build_model: Callable[[], nn.Module]
    method: quantizers.Method


def resolve(section: Section, key: str) -> tuple[Callable, dict[str, Any]]:
    """Return the class or function that a section names, and its checked options.

    Raises:
        Invalid: no such thing, or options that do not fit it.
    """
    module, _, attribute = section.target.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Invalid([Problem(f"{key}._target_", f"cannot be imported ({error})", section.target)]) from error
    return target, schema.parse(target, section.options, key)


def assemble(config: Config) -> Parts:
    """Return the parts of a run.

    Raises:
        Invalid: with every problem of every part.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[Callable, dict[str, Any]]] = {}
    for key in ("dataset", "model", "quantizer"):
        try:
            found[key] = resolve(getattr(config, key), key)
        except Invalid as error:
            problems += error.problems
    method = None
    if "quantizer" in found:
        try:
            method = found["quantizer"][0](**found["quantizer"][1])
            method.check(config.weight_bits, config.activation_bits)
        except ValueError as error:
            bits = f"weight_bits={config.weight_bits} activation_bits={config.activation_bits}"
            problems.append(Problem(f"quantizer={config.quantizer.name} with {bits}", str(error)))
    try:
        pick_device(config.device)
    except UsageError as error:
        problems.append(Problem("device", str(error), config.device))
    if problems or method is None:
        raise Invalid(problems)
    target, options = found["dataset"]
    source: Source = target(**options)
    build, options = found["model"]
    return Parts(source, partial(build, source.classes, source.channels, source.image_size, **options), method)


def check(config: Config, *, fetch: bool) -> None:
    """Check everything that can be known before a run starts.

    Args:
        config: of the run.
        fetch: look for the dataset too, and download it if need be.

    Raises:
        Invalid: with every problem.
    """
    parts = assemble(config)
    problems = []
    try:
        runs.initial_checkpoint(config)
        if fetch:
            parts.source.prepare(runs.data_root(config.data_dir))
    except UsageError as error:
        problems.append(Problem(*_split(str(error))))
    try:
        with torch.device("meta"):
            build_network(config, parts)
    except ValueError as error:
        problems.append(Problem(*_split(str(error))))
    if problems:
        raise Invalid(problems)


def _split(message: str) -> tuple[str, str]:
    key, _, rest = message.partition(": ")
    return (key, rest) if rest else ("error", message)


def pick_device(name: str) -> torch.device:
    """Return the device that `name` means; `auto` is CUDA where there is one.

    Raises:
        UsageError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError("must be auto, cpu, cuda, cuda:NUMBER or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; device=cpu or device=auto will run")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no MPS device here; device=cpu or device=auto will run")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError("must be auto, cpu, cuda, cuda:NUMBER or mps")
    return device


def build_network(config: Config, parts: Parts, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return the quantized network; `state` is a float state dict that it begins with."""
    model = parts.build_model()
    if state is not None:
        checkpoint.load_into(model, dict(state), f"init={config.init}")
    return quantizers.quantize(
        model,
        parts.method,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        keep_float=config.keep_float,
    )
