"""Configuration -> parts: find what the configuration names, and check that it all fits before anything starts."""

import errno
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from qexp import quantizers, runs
from qexp.config import schema
from qexp.config.config import PLACES, Config, Recipe, Section, is_float
from qexp.config.schema import Invalid, Problem
from qexp.data.datasets import Source
from qexp.engine import weights
from qexp.experiment import trial
from qexp.models import pretrained
from qexp.utils.errors import UsageError, cannot_write

T = TypeVar("T")
_OF_DATA = ["classes", "channels", "image_size"]  # the first parameters of every model


@dataclass(frozen=True)
class Parts:
    """What a configuration names, checked but not yet built."""

    source: Source
    build_model: Callable[[], nn.Module]
    method: quantizers.Method


def resolve(section: Section, key: str) -> tuple[Callable, dict[str, Any]]:
    """Return the class or function that a section names, and its checked options.

    Raises:
        Invalid: no such thing in the part of qexp that is for it, or options that do not fit it.
    """
    module, _, attribute = section.target.rpartition(".")
    try:
        if not section.target.startswith(PLACES[key]):
            raise ImportError("it lies elsewhere")
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Invalid([Problem(f"{key}._target_", f"cannot be imported ({error})", section.target)]) from error
    if not _is_a(key, target) or not target.__module__.startswith(PLACES[key]):
        raise Invalid([Problem(f"{key}._target_", f"must name a {key} in {PLACES[key][:-1]}", section.target)])
    return target, schema.parse(target, section.options, key)


def _is_a(key: str, target: Any) -> bool:
    """Whether `target` can stand for a dataset, a model or a quantizer."""
    if key == "model":
        return inspect.isfunction(target) and list(inspect.signature(target).parameters)[:3] == _OF_DATA
    kind: type = Source if key == "dataset" else quantizers.Method
    return isinstance(target, type) and issubclass(target, kind) and not inspect.isabstract(target)


def build_source(config: Config) -> Source:
    """Return the dataset's source; raise Invalid."""
    target, options = resolve(config.dataset, "dataset")
    return cast(Source, target(**options))


def build_method(config: Config) -> quantizers.Method:
    """Return the method, checked for the bit-widths it is to have; raise Invalid."""
    target, options = resolve(config.quantizer, "quantizer")
    try:
        method: quantizers.Method = target(**options)
        method.check(config.weight_bits, config.activation_bits)
        if isinstance(method, quantizers.FP) != is_float(config.raw):
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


def attempt(problems: list[Problem], action: Callable[[], T]) -> T | None:
    """Return what `action` gives; where a user's mistake stops it, add that to `problems` and return None."""
    try:
        return action()
    except Invalid as error:
        problems += error.problems
    except OSError as error:
        problems.append(Problem(str(error.filename), os.strerror(error.errno or errno.EIO)))
    except (UsageError, ValueError) as error:
        key, _, rest = str(error).partition(": ")
        problems.append(Problem(key, rest) if rest else Problem("error", str(error)))
    return None


def check(config: Config, *, fetch: bool) -> None:
    """Check everything that can be known before a run starts.

    Args:
        config: of the run.
        fetch: the run is to start: download a dataset, or torchvision's weights, where they are not there.

    Raises:
        Invalid: with every problem.
    """
    problems: list[Problem] = []
    attempt(problems, lambda: check_store(config, write=fetch))
    start = attempt(problems, lambda: runs.initial_checkpoint(config))
    attempt(problems, lambda: pick_device(config.device))
    attempt(problems, lambda: check_accumulate(config.recipe))
    parts = attempt(problems, lambda: assemble(config))
    # Where parts are wrong, missing data are named with them; what is wrong with the source itself is in `problems`.
    source = parts.source if parts else attempt([], lambda: build_source(config))
    if source is not None:
        attempt(problems, lambda: source.check_crop(config.recipe.crop))
    images = attempt(problems, lambda: check_images(config, source, fetch=fetch)) if source else None
    if parts is not None:
        if config.init == "torchvision":
            start = attempt(problems, lambda: torchvision_weights(config, parts, download=fetch))
        attempt(problems, lambda: check_network(config, parts, start, images))
    if problems:
        raise Invalid(problems)


def check_store(config: Config, *, write: bool) -> None:
    """Raise QexpError if the run store is no folder, or if it is to be written and cannot."""
    store = _folder("runs_dir", runs.store_root, config.runs_dir)
    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    if not place.is_dir():
        raise cannot_write(store, OSError(errno.ENOTDIR, ""))
    if write and not os.access(place, os.W_OK | os.X_OK):
        is_fixed = os.statvfs(place).f_flag & os.ST_RDONLY
        raise cannot_write(store, OSError(errno.EROFS if is_fixed else errno.EACCES, ""))


def _folder(key: str, root: Callable[[str | None], Path], value: str | None) -> Path:
    try:
        return root(value)
    except RuntimeError as error:  # ~somebody
        raise UsageError(f"{key}={value}: {error}") from error


def check_images(config: Config, source: Source, *, fetch: bool) -> int:
    """Return the number of training images; raise UsageError where they cannot be used."""
    train, test = source.prepare(_folder("data_dir", runs.data_root, config.data_dir), download=fetch)
    _check_memory(source, train, test)
    if (size := config.recipe.batch_size) > train:
        there = "there is 1 training image" if train == 1 else f"there are {train} training images"
        raise UsageError(f"recipe.batch_size={size}: {there}")
    return train


def _check_memory(source: Source, train: int, test: int) -> None:
    what = f"{train:,} training and {test:,} test images of {source.image_size}x{source.image_size} pixels"
    trial.check_memory(source.memory_bytes(train, test), f"dataset={source.name}: {what}")


def check_evaluation(config: Config, parts: Parts) -> None:
    """Raise UsageError where images or network cannot even be made, whatever the checkpoint."""
    _check_memory(parts.source, parts.source.train_size or 0, parts.source.test_size or 0)
    check_batches(config, parts, config.recipe.batch_size)


def check_accumulate(recipe: Recipe) -> None:
    """Raise UsageError where a part of a batch would be a single image, which batch norm cannot train on."""
    if recipe.accumulate > 1 and recipe.batch_size < 2 * recipe.accumulate:
        raise UsageError(
            f"recipe.accumulate={recipe.accumulate}: parts of two images or more need a recipe.batch_size of "
            f"{2 * recipe.accumulate} or more, not {recipe.batch_size}"
        )


def check_sections(sections: Mapping[str, Section]) -> list[Problem]:
    """Return what is wrong with the options of dataset, model and method where the rest of a configuration is wrong."""
    problems: list[Problem] = []
    for key, section in sections.items():
        attempt(problems, partial(resolve, section, key))
    return problems


def torchvision_weights(config: Config, parts: Parts, *, download: bool) -> Path | None:
    """Return the file for `init=torchvision`; None where it is not there and `download` is false.

    Raises:
        UsageError: no such weights, another network, or no file.
    """
    pretrained.check_same(config.model.name, parts.build_model)  # before a download
    return pretrained.fetch(config.model.name, download=download)


def starting_file(config: Config) -> Path | None:
    """Return the checkpoint that `init` names, None for `fp` and `scratch`; raises UsageError."""
    if config.init == "torchvision":
        return pretrained.fetch(config.model.name)
    return runs.initial_checkpoint(config)


def check_network(config: Config, parts: Parts, start: Path | None, images: int | None) -> None:
    """Build the network without memory for it, and hold images and checkpoint against it; raise as `build_network`."""
    check_batches(config, parts, images or config.recipe.batch_size)
    state, source = None if start is None else weights.load_state(start), f"init={config.init}"
    with torch.device("meta"):
        build_network(config, parts, state, source=source, load=weights.check_fits)
    if state is not None:
        weights.check_finite(state, source)


def check_batches(config: Config, parts: Parts, images: int) -> None:
    """Raise UsageError if the network cannot be trained in the batches that so many images are cut into."""
    recipe, source = config.recipe, parts.source
    sizes = trial.piece_sizes(images, recipe.batch_size, recipe.accumulate)
    try:
        trial.try_batches(parts.build_model, sizes, source.channels, source.image_size)
    except trial.DoesNotFit as error:
        options = " ".join(f"model.{key}={value}" for key, value in config.model.options.items())
        raise UsageError(f"model={config.model.name} with {options}: {error}") from error


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
        raise UsageError(f"device={name}: must be auto, cpu, cuda, cuda:NUMBER or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device={name}: no CUDA device here; device=cpu or device=auto will run")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device={name}: no MPS device here; device=cpu or device=auto will run")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device={name}: must be auto, cpu, cuda, cuda:NUMBER or mps")
    return device


def build_network(
    config: Config,
    parts: Parts,
    state: Mapping[str, Tensor] | None = None,
    *,
    source: str = "",
    load: Callable[[nn.Module, Mapping[str, Tensor], str], None] = weights.load_into,
) -> nn.Module:
    """Return the quantized network of a configuration.

    Args:
        config: of the run.
        parts: of the run.
        state: a state dict to begin with: that of a float network is loaded before quantization, else after it.
        source: where `state` comes from, for messages.
        load: what to do with `state`; `checkpoint.check_fits` only compares.

    Raises:
        UsageError: `state` does not fit.
        ValueError: options that do not fit the network.
    """
    is_quantized = state is not None and weights.holds_quantizers(state)
    model = parts.build_model()
    if state is not None and not is_quantized:
        load(model, _with_counters(state, model), source)
    model = quantizers.quantize(
        model,
        parts.method,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        keep_float=config.keep_float,
    )
    if state is not None and is_quantized:
        load(model, state, source)
    return model


def _with_counters(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `state` with the batch counters of batch normalisation, where it has none.

    Weights from before torch 0.4.1, torchvision's ResNets among them, may lack them; torch would add them as well.
    """
    counters = {key: value for key, value in model.state_dict().items() if key.endswith(".num_batches_tracked")}
    return {**counters, **state}
