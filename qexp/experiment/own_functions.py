"""Augmentations and learning-rate schedules of the user's own: loaded, and tried before anything is trained.

docs/own.md has the signature of each.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qexp.config import schema
from qexp.config.config import Config
from qexp.config.schema import Invalid, Problem
from qexp.config.sections import named_functions
from qexp.config.trust import error_in_own_code
from qexp.data.augment import OwnAugment, check_augmented
from qexp.data.datasets import Source
from qexp.experiment.own_parts import own_part
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.text import kind_of_value, one_line

_IMAGES = 4  # of a trial, or a batch if that is smaller
_SEEDS = range(8)  # a coin that comes from elsewhere falls eight times alike in one trial of 128
_MOMENTS = [moment / 200 for moment in range(200)]  # of a training


def own_augment(config: Config) -> OwnAugment | None:
    """Return the augmentation of the user's own that a recipe names; raise Invalid."""
    return _loaded(config, "recipe.augment")


def own_schedule(config: Config) -> Callable[[float], float] | None:
    """Return the schedule of the user's own that a recipe names, which raises QexpError for what is no factor.

    Raises:
        Invalid: it cannot be loaded.
    """
    found = _loaded(config, "recipe.schedule.own")
    return None if found is None else partial(_factor, found)


def _factor(schedule: Callable[[float], Any], done: float) -> float:
    factor = schedule(done)
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise QexpError(f"recipe.schedule.own: gives {kind_of_value(factor)} for done={done:g}, and must give a number")
    if not math.isfinite(factor) or factor < 0:
        raise QexpError(f"recipe.schedule.own: gives {factor} for done={done:g}, and must give a factor of 0 or more")
    return float(factor)


def _loaded(config: Config, key: str) -> Callable[..., Any] | None:
    """Return the function under a key of the recipe with its checked options; None where there is none."""
    for section in named_functions(config.tree["recipe"]):
        if section.name == key:
            found = own_part(key, section.target)
            return partial(found, **schema.parse(found, section.options, key))
    return None


def check_own_functions(config: Config, source: Source | None) -> None:
    """Try the functions of the user's own that a recipe names.

    Args:
        config: of the run.
        source: of its data; None leaves out what is tried with images.

    Raises:
        Invalid: they cannot be loaded, fail, or give something else than they must.
    """
    problems: list[Problem] = []
    for section in named_functions(config.tree["recipe"]):
        key = section.name
        try:
            if key == "recipe.augment":
                function = own_augment(config)
                if source is not None and function is not None:
                    _try_augment(function, min(_IMAGES, config.recipe.batch_size), source)
            elif (schedule := own_schedule(config)) is not None:
                _try_schedule(schedule)
        except Invalid as error:
            problems += error.problems
        except (Exception, SystemExit) as error:  # whatever somebody's code raises
            why = str(error).removeprefix(f"{key}: ") if isinstance(error, QexpError) else _told(error)
            problems.append(Problem(key, why, section.target))
    if problems:
        raise Invalid(problems)


def _told(error: Exception | SystemExit) -> str:
    return error_in_own_code(error) or f"{type(error).__name__}: {one_line(str(error))}"


def _try_augment(function: OwnAugment, count: int, source: Source) -> None:
    """Raise UsageError where an augmentation does not give images, or other ones from the same seed."""
    shape = (count, source.channels, source.image_size, source.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)

    def once(seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            found = function(images.clone(memory_format=torch.preserve_format), torch.Generator().manual_seed(seed))
        check_augmented(found, images)
        return found

    for seed in _SEEDS:
        first, second = once(seed), once(seed)
        if not bool(first.isfinite().all()):
            raise UsageError("gives values that are infinite or not a number")
        if not torch.equal(first, second):
            raise UsageError(
                "gives other images from the same seed: its random numbers must come from `generator`, or a run "
                "could not be resumed exactly"
            )


def _try_schedule(schedule: Callable[[float], float]) -> None:
    """Raise UsageError where a schedule does not give factors, or other ones for the same moment."""
    for done in _MOMENTS:
        if (factor := schedule(done)) != (again := schedule(done)):
            raise UsageError(f"gives {factor:g} and then {again:g} for done={done:g}: it must hang on `done` alone")
