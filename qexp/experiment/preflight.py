"""Everything that can be refused before a run has a directory, all mistakes at once."""

import copy
import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qexp import quantizers
from qexp.config.config import Config
from qexp.config.fingerprint import library_of
from qexp.config.places import data_root, starting_checkpoint, store_root
from qexp.config.schema import Invalid, Problem, attempt
from qexp.config.sections import Section
from qexp.config.trust import error_in_own_code
from qexp.data.datasets import Source
from qexp.engine import weights
from qexp.experiment.build import Parts, assemble, build_covered, build_source
from qexp.experiment.device import pick_device
from qexp.experiment.named_parts import resolve
from qexp.experiment.own_functions import check_own_functions
from qexp.experiment.pretrained_start import check_pretrained
from qexp.experiment.recipe_checks import check_accumulate, check_patience, check_remedies, check_restarts
from qexp.models import pretrained
from qexp.models.library_networks import SHRINKS
from qexp.utils.errors import UsageError, cannot_write
from qexp.utils.text import plural


class Trial(NamedTuple):
    """What a trial of a float network without memory showed.

    Attributes:
        model: the network.
        per_image: the most values that one image has in any of its layers.
        called: names of the modules that its forward pass calls.
    """

    model: nn.Module
    per_image: int
    called: frozenset[str]


Trials = dict[str, Trial]  # what was tried -> what it showed
MOST_TRIALS = 100  # at a time in memory
# What torch, Python and libraries of networks raise where sizes do not fit.
_RAISED = (ValueError, TypeError, RuntimeError, MemoryError, ArithmeticError, AssertionError, LookupError)


def check(config: Config, *, fetch: bool, trials: Trials | None = None) -> Parts:
    """Check everything that can be known before a run starts, and return its parts.

    Args:
        config: of the run.
        fetch: the run is to start: download a dataset, or torchvision's weights, where they are not there.
        trials: of the networks of other runs; what was tried is not tried again.

    Raises:
        Invalid: with every problem.
    """
    problems: list[Problem] = []
    attempt(problems, lambda: check_store(config, write=fetch))
    start = attempt(problems, lambda: starting_checkpoint(config.init, config.runs_dir))
    attempt(problems, lambda: pick_device(config.device))
    for check_recipe in (check_accumulate, check_patience, check_remedies, check_restarts):
        attempt(problems, partial(check_recipe, config))
    parts = attempt(problems, lambda: assemble(config))
    # Where parts are wrong, missing data are named with them; what is wrong with the source itself is in `problems`.
    source = parts.source if parts else attempt([], lambda: build_source(config))
    attempt(problems, lambda: check_own_functions(config, source))
    if source is not None:
        attempt(problems, lambda: source.check_crop(config.recipe.crop))
        attempt(problems, lambda: source.check_randaugment(config.recipe.randaugment))
    images = attempt(problems, lambda: check_images(config, source, fetch=fetch)) if source else None
    if parts is not None:
        if config.init == "torchvision":
            start = attempt(problems, lambda: torchvision_weights(config, parts, download=fetch))
        attempt(problems, lambda: check_network(config, parts, start, images, trials, fetch=fetch))
    if problems or parts is None:
        raise Invalid(problems)
    return parts


def check_sections(sections: Mapping[str, Section]) -> list[Problem]:
    """Return what is wrong with the options of dataset, model and method where the rest of a configuration is wrong."""
    problems: list[Problem] = []
    for key, section in sections.items():
        attempt(problems, partial(resolve, section, key))
    return problems


def check_store(config: Config, *, write: bool) -> None:
    """Raise QexpError if the run store is no folder, or if it is to be written and cannot."""
    store = _folder("runs_dir", store_root, config.runs_dir)
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
    """Return the number of images to train on; raise UsageError where they cannot be used."""
    train, test = source.prepare(_folder("data_dir", data_root, config.data_dir), download=fetch)
    _check_image_memory(source, train, test)
    held_out = config.recipe.holdout
    if held_out > (most := max(train - source.classes, 0)):
        raise UsageError(
            f"recipe.holdout={held_out}: at most {most}, so that each of {source.classes} classes keeps an image to "
            f"train on; the dataset has {plural(train, 'training image')}"
        )
    if (size := config.recipe.batch_size) > train - held_out:
        without = f" besides recipe.holdout={held_out}" if held_out else ""
        raise UsageError(
            f"recipe.batch_size={size}: the dataset has {plural(train - held_out, 'training image')}{without}"
        )
    return train - held_out


def check_evaluation(config: Config, parts: Parts) -> None:
    """Raise UsageError where images or network cannot even be made, whatever the checkpoint."""
    _check_image_memory(parts.source, parts.source.train_size or 0, parts.source.test_size or 0)
    trial_network(config, parts, config.recipe.batch_size)


def torchvision_weights(config: Config, parts: Parts, *, download: bool) -> Path | None:
    """Return the file for `init=torchvision`; None where it is not there and `download` is false.

    Raises:
        UsageError: no such weights, another network, or no file.
    """
    if library_of(config.model.target):
        raise UsageError(
            "init=torchvision: is for networks of qexp's own; this one begins with model.pretrained=default"
        )
    pretrained.check_same(config.model.name, parts.build_model)  # before a download
    return pretrained.fetch(config.model.name, download=download)


def check_network(
    config: Config, parts: Parts, start: Path | None, images: int | None, trials: Trials | None, *, fetch: bool
) -> None:
    """Build the network without memory for it, and hold images and weights against it; raise as `build_covered`."""
    trial = trial_network(config, parts, images or config.recipe.batch_size, trials)
    state, source = None if start is None else weights.load_state(start), f"init={config.init}"
    with torch.device("meta"):
        network = build_covered(config, parts, state, model=trial.model, source=source, load=weights.check_fits)[0]
    quantizers.check_reached(network, trial.called, config.keep_float)
    if state is not None:
        weights.check_finite(state, source)
    check_pretrained(config, parts, download=fetch)


def covered_network(config: Config) -> tuple[nn.Module, quantizers.Coverage]:
    """Return the quantized network of a configuration without memory for it, and what of it is quantized.

    Raises:
        Invalid: parts that cannot be made.
        ValueError: nothing to quantize, or layers that cannot be.
    """
    parts = assemble(config)
    trial = trial_network(config, parts, config.recipe.batch_size)
    with torch.device("meta"):
        model, coverage = build_covered(config, parts, model=trial.model)
    quantizers.check_reached(model, trial.called, config.keep_float)
    return model, coverage


def trial_network(config: Config, parts: Parts, images: int, trials: Trials | None = None) -> Trial:
    """Return a trial, with a network of its own, of the batches that it is to be trained in.

    Args:
        config: of the run.
        parts: of the run.
        images: how many there are to train on.
        trials: what was tried already.

    Raises:
        UsageError: it cannot be built, cannot be trained on such batches, or takes more memory than there is.
    """
    smallest, largest = piece_sizes(images, config.recipe.batch_size, config.recipe.accumulate)
    options = [f"model.{key}={value}" for key, value in config.model.options.items() if value is not None]
    name = " ".join([f"model={config.model.name} with", *options])
    trials = {} if trials is None else trials
    key = repr((config.model, config.dataset, smallest > 1))  # whatever works for two images works for more
    if key not in trials:
        if len(trials) >= MOST_TRIALS:
            trials.clear()
        trials[key] = _tried(name, parts, smallest, SHRINKS if library_of(config.model.target) else "")
    found = trials[key]
    check_memory(4 * sum(parameter.numel() for parameter in found.model.parameters()), f"{name}: its weights")
    check_memory(4 * largest * found.per_image, f"{name}: a batch of {largest} images")
    return found._replace(model=copy.deepcopy(found.model))


def _tried(name: str, parts: Parts, smallest: int, advice: str) -> Trial:
    """Return the trial of a network; raise UsageError, with `advice` where images do not fit."""
    channels, size, count = parts.source.channels, parts.source.image_size, min(smallest, 2)
    per_image, called = [channels * size**2], set[nn.Module]()

    def note(module: nn.Module, inputs: object, output: object) -> None:
        called.add(module)
        if isinstance(output, Tensor):
            per_image.append(output.numel() // count)

    with torch.device("meta"):
        try:
            model: Any = parts.build_model()
        except _RAISED as error:
            raise UsageError(f"{name}: cannot be built ({_first_line(error)})") from error
        if not isinstance(model, nn.Module):
            kind = "nothing" if model is None else f"an object of the class {type(model).__name__}"
            raise UsageError(f"{name}: must return a torch.nn.Module, and returned {kind}")
        model.train()
        hooks = [module.register_forward_hook(note) for module in model.modules()]
        try:
            logits = model(torch.empty(count, channels, size, size))
        except _RAISED as error:
            batch = f"{plural(smallest, 'image')} of {size}x{size} pixels"
            why = f"{_first_line(error)}){'; take a larger recipe.batch_size' if smallest == 1 else advice}"
            raise UsageError(f"{name}: cannot train on a batch of {batch} ({why}") from error
    for hook in hooks:
        hook.remove()
    expected = (count, parts.source.classes)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        found = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(f"{name}: gives {found} for {plural(count, 'image')}, and must give logits {expected}")
    names = (name for name, module in model.named_modules() if module in called)
    return Trial(model, max(per_image), frozenset(names))


def piece_sizes(images: int, batch_size: int, accumulate: int) -> tuple[int, int]:
    """Return the smallest and the largest number of images that a network sees at once in training.

    Args:
        images: how many there are; a last batch of a single one is left out.
        batch_size: images per batch.
        accumulate: parts that a batch is cut into.
    """
    sizes = {batch_size} | ({rest} if (rest := images % batch_size) > 1 else set())
    pieces = [size // max(1, min(accumulate, size // 2)) for size in sizes]
    return min(pieces), max(pieces)


def _first_line(error: BaseException) -> str:
    return error_in_own_code(error) or next(iter(str(error).splitlines()), type(error).__name__)


def _check_image_memory(source: Source, train: int, test: int) -> None:
    what = f"{train:,} training and {test:,} test images of {source.image_size}x{source.image_size} pixels"
    check_memory(source.memory_bytes(train, test), f"dataset={source.name}: {what}")


def check_memory(needed: float, what: str) -> None:
    """Raise UsageError if `what` is sure to take more memory than this machine has."""
    if needed > (has := machine_memory()):
        raise UsageError(f"{what} would take {needed / 1e9:,.0f} GB of memory, and this machine has {has / 1e9:,.0f}")


def machine_memory() -> float:
    """Return the bytes of memory of this machine; infinity where it does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
