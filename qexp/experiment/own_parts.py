"""Parts of the user's own: imported where that is trusted, and held against their signatures.

docs/own.md has the signature of each kind.
"""

import inspect
import os
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from qexp import quantizers
from qexp.config import schema
from qexp.config.schema import Invalid, Problem
from qexp.config.trust import error_in_own_code, find_package, package_of, trust_problem
from qexp.data.batches import Dataset
from qexp.data.datasets import Source
from qexp.utils.errors import UsageError
from qexp.utils.text import kind_of_value, one_line, suggest

OF_DATA = ("classes", "channels", "image_size")  # the first parameters of every model
BASES: dict[str, type] = {"dataset": Source, "quantizer": quantizers.Method}
_NAMES = {"dataset": "qexp.data.datasets.Source", "quantizer": "qexp.quantizers.base.Method"}
# The first arguments of what is a function, and what it returns.
_FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "model": (OF_DATA, "a torch.nn.Module"),
    "recipe.augment": (("images", "generator"), "images"),
    "recipe.schedule.own": (("done",), "a factor"),
}
# What is called with which arguments, beside the object itself.
_CALLS: dict[str, dict[str, tuple[str, ...]]] = {
    "quantizer": {"weight": ("bits", "layer"), "activation": ("bits", "layer")},
    "dataset": {"load": ("data_dir",), "counts": ("data_dir", "*download")},
}


def own_part(key: str, target: str) -> Callable[..., Any]:
    """Return what an own target names, after a look at its signature.

    Args:
        key: `dataset`, `model`, `quantizer`, `recipe.augment` or `recipe.schedule.own`.
        target: `my_package.module.Name`.

    Raises:
        Invalid: its package is not trusted, fails while it is imported, or holds no such thing.
    """
    try:
        if problem := trust_problem(target) or _absent(target):
            raise UsageError(problem)
        found = _imported(target)
        if package_of(found.__module__) != package_of(target):
            raise UsageError(f"is {found.__module__}.{found.__qualname__}, which is not of {package_of(target)}")
        if key in _FUNCTIONS:
            _check_function(found, *_FUNCTIONS[key])
        else:
            _check_class(key, found)
        schema.options(found)  # its annotations may name what is not there
    except UsageError as error:
        raise Invalid([Problem(f"{key}._target_", str(error), target)]) from error
    except NameError as error:
        problem = f"its annotations name what is not there ({error})"
        raise Invalid([Problem(f"{key}._target_", problem, target)]) from error
    return found


def _absent(target: str) -> str | None:
    package = package_of(target)
    if find_package(package) is not None:
        return None
    return f"there is no package {package} here: not installed, not in this folder, and not beside --config-dir"


def _imported(target: str) -> Any:
    """Return the class or function; raise UsageError with the file and the line of what fails."""
    module_name, _, name = target.rpartition(".")
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        if os.environ.get("QEXP_DEBUG"):
            traceback.print_exc()
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name}") from error
        why = error_in_own_code(error) or f"{type(error).__name__}: {one_line(str(error))}"
        raise UsageError(f"cannot be imported: {why}") from error
    found = getattr(module, name, None)
    if found is None:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UsageError(f"there is no {name} in {module_name}{suggest(name, public)}")
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise UsageError("is neither a class nor a function")
    return found


def _check_class(key: str, found: Any) -> None:
    """Raise UsageError for what is no class of its kind, or whose methods take other arguments."""
    if not isinstance(found, type) or not issubclass(found, BASES[key]):
        raise UsageError(f"must be a subclass of {_NAMES[key]}")
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"lacks {', '.join(lacking)}, which {_NAMES[key]} asks for")
    for name, arguments in _CALLS[key].items():
        _check_arguments(getattr(found, name), name, ("self", *arguments))


def _check_arguments(function: Callable[..., Any], name: str, arguments: tuple[str, ...]) -> None:
    """Raise UsageError where a function cannot be called with arguments of these names; `*x` goes by name only."""
    signature = inspect.signature(function)
    shown = f"{name}{signature}: must take {', '.join(argument.lstrip('*') for argument in arguments)}"
    places = [argument for argument in arguments if not argument.startswith("*")]
    names = {argument[1:]: None for argument in arguments if argument.startswith("*")}
    try:
        signature.bind(*places, **names)
    except TypeError as error:
        raise UsageError(f"{shown} ({error})") from error


def _check_function(found: Any, arguments: tuple[str, ...], result: str) -> None:
    """Raise UsageError for what is no function of these arguments, with options as keywords."""
    form = f"({', '.join(arguments)}, *, options)"
    if not inspect.isfunction(found):
        raise UsageError(f"must be a function {form} that returns {result}, not a class")
    parameters = list(inspect.signature(found).parameters.values())
    for number, expected in enumerate(arguments):
        has = parameters[number] if number < len(parameters) else None
        if has is None or has.name != expected or has.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            place = ("first", "second", "third")[number]
            given = f"is '{has}'" if has is not None else "is missing"
            raise UsageError(f"its {place} argument {given}, and must be '{expected}': {form}")
    for parameter in parameters[len(arguments) :]:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise UsageError(f"its argument '{parameter}' must stand behind *, as every option does: {form}")


def check_source(source: Source, target: str) -> None:
    """Raise Invalid where an own data set does not say what is known without loading it."""
    problems = []
    for name in OF_DATA:
        value = getattr(source, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"{name} is {value!r} and must be a whole number of 1 or more")
    if not isinstance(getattr(source, "name", None), str):
        problems.append("name is missing: a word for messages")
    if problems:
        raise Invalid([Problem("dataset._target_", problem, target) for problem in problems])


def check_dataset(data: Any, source: Source) -> None:
    """Raise UsageError where what an own data set loads makes no batches, or is asked for them in other words."""
    for name in ("train_batches", "test_batches"):
        made = getattr(data, name, None)
        if made is None:
            raise UsageError(f"{source.name}: load() returned {kind_of_value(data)}, which has no {name}")
        asked = list(inspect.signature(getattr(Dataset, name)).parameters.values())
        words = tuple(f"*{one.name}" if one.kind is inspect.Parameter.KEYWORD_ONLY else one.name for one in asked[1:])
        _check_arguments(made, name, words)
