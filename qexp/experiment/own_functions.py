"""Augmentations and learning-rate schedules of the user's own: loaded, and tried before anything is trained.

docs/own.md has the signature of each.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Real
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
_SEEDS = 16  # each with images of its own
_MOMENTS = [moment / 200 for moment in range(200)]  # of a training
_STRIDE = 7  # between the calls of a third round, without a common divisor with the numbers above
_PURE = "nothing may be kept between calls, or a run could not be resumed exactly"

# Of torch, by what it is called in a message: how to read it, and how to put it back.
_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
}


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
    if isinstance(factor, bool) or not isinstance(factor, Real):  # NumPy's numbers are such, tensors are not
        raise QexpError(f"recipe.schedule.own: gives {kind_of_value(factor)} for done={done:g}, and must give a number")
    try:
        number = float(factor)
    except OverflowError:  # 10**400
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise QexpError(f"recipe.schedule.own: gives {number} for done={done:g}, and must give a factor of 0 or more")
    return number


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
            with _same_settings():  # while they are imported, too
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


@contextmanager
def _same_settings(number: int | None = None) -> Iterator[None]:
    """Raise UsageError where a function changed settings of torch that a training goes by; put them back.

    A training in which gradients are off from its first batch on fails, or learns nothing, without a word of the cause.

    Args:
        number: of a call: with 1 thread if it is even, else with 2, since a function may set the number that is there.
    """
    threads = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(1 + number % 2)
    before = {name: get() for name, (get, _) in _SETTINGS.items()}
    changed = []
    try:
        yield
    finally:
        for name, (get, put) in _SETTINGS.items():
            if (after := get()) != before[name]:
                changed.append(f"{name} from {before[name]} to {after}")
                put(before[name])
        torch.set_num_threads(threads)
    if changed:
        raise UsageError(f"changes {' and '.join(changed)}, in all of the process; it must put back what it changes")


def _try_augment(function: OwnAugment, count: int, source: Source) -> None:
    """Raise UsageError where an augmentation does not give images, or other ones from the same seed and images."""
    shape = (count, source.channels, source.image_size, source.image_size)

    def called(seed: int) -> Tensor:
        images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        images = images.to(memory_format=torch.channels_last)
        given = images.clone(memory_format=torch.preserve_format)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            with _same_settings(seed):
                found = function(given, torch.Generator().manual_seed(seed))
        check_augmented(found, images)
        if not bool(found.isfinite().all()):
            raise UsageError("gives values that are infinite or not a number")
        return found.clone()  # it may keep what it gives, and change it

    first = [called(seed) for seed in range(_SEEDS)]
    for seed in _other_orders(_SEEDS):
        if not torch.equal(called(seed), first[seed]):
            raise UsageError(
                f"gives other images from the same seed: its random numbers must come from `generator`, and {_PURE}"
            )


def _try_schedule(schedule: Callable[[float], float]) -> None:
    """Raise UsageError where a schedule does not give factors, or other ones for the same moment."""

    def called(moment: int) -> float:
        with _same_settings(moment):
            return schedule(_MOMENTS[moment])

    first = [called(moment) for moment in range(len(_MOMENTS))]
    for moment in _other_orders(len(_MOMENTS)):
        done, factor = _MOMENTS[moment], first[moment]
        if (again := called(moment)) != factor:
            raise UsageError(
                f"gives {factor:g} and then {again:g} for done={done:g}: it must hang on `done` alone, and {_PURE}"
            )


def _other_orders(count: int) -> Iterator[int]:
    """Yield the numbers below `count` backwards, then in strides: none after the same others as in the plain order."""
    yield from reversed(range(count))
    yield from (number * _STRIDE % count for number in range(count))
