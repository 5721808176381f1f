"""Check plain data against the typed signature of the class or function it is meant for.

The signature is the schema: its keyword-only parameters (or a dataclass' fields) name the options, annotations give
their types, `Annotated[..., Range]` their bounds and `Literal` their choices.
"""

import errno
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union

from qexp.utils.errors import UsageError
from qexp.utils.text import UNFIT, one_line, suggest
from qexp.utils.types import Range

T = TypeVar("T")
_LARGEST = 2**63 - 1  # of the integers that torch and numpy can hold


@dataclass(frozen=True)
class Problem:
    """One thing wrong at one key: `key=value: message`."""

    key: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        shown = self.key if self.value is None else f"{self.key}={_shown(self.value)}"
        message = one_line(self.message, 700)
        return f"{one_line(shown)}: {message}" if shown else message


def _shown(value: Any) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits; lists in lists in lists
        return "..."


class Invalid(ValueError):
    """The data do not fit; `problems` lists everything that is wrong."""

    def __init__(self, problems: list[Problem]):
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


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
        problems.append(Problem(key, rest) if rest else Problem("", str(error)))
    return None


def options(target: Callable) -> dict[str, tuple[Any, bool]]:
    """Return {name: (annotation, required)} for the options that `target` takes."""
    owner = target.__init__ if inspect.isclass(target) and not is_dataclass(target) else target
    hints = typing.get_type_hints(owner, include_extras=True)
    kinds: set[Any] = {inspect.Parameter.KEYWORD_ONLY}
    if is_dataclass(target):
        kinds.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        name: (hints.get(name, Any), parameter.default is inspect.Parameter.empty)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in kinds
    }


def deeper(target: Callable, key: str) -> str | None:
    """Return where an option of this name lies further down, such as `optimizer.weight.lr`; None if nowhere."""
    known = options(target)
    if key in known:
        return key
    for name, (hint, _) in known.items():
        if is_dataclass(hint) and (found := deeper(hint, key)):  # type: ignore[arg-type]
            return f"{name}.{found}"
    return None


def parse(target: Callable, data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the keyword arguments for `target` found in `data`, converted to their annotated types.

    Raises:
        Invalid: with every unknown key, missing key, wrong type and value out of range.
    """
    known = options(target)
    prefix = f"{path}." if path else ""
    problems, values = [], {}
    for key, value in data.items():
        if key not in known:
            everything = ", ".join(sorted(known)) or "none"
            below = deeper(target, str(key))
            near = f" (did you mean '{prefix}{below}'?)" if below else suggest(_shown(key), known)
            hint = near or f"; options here: {everything}"
            problems.append(Problem(f"{prefix}{key}", f"unknown option{hint}", value))
            continue
        try:
            values[key] = convert_value(value, known[key][0], f"{prefix}{key}")
        except Invalid as error:
            problems += error.problems
    problems += [
        Problem(f"{prefix}{key}", "missing option")
        for key, (_, required) in known.items()
        if required and key not in data
    ]
    if problems:
        raise Invalid(problems)
    return values


def convert_value(value: Any, hint: Any, path: str) -> Any:
    """Return `value` as the type `hint`; raise Invalid where it cannot be that."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return _bounded(convert_value(value, arguments[0], path), arguments[1:], path)
    if origin in (Union, types.UnionType):
        return _any_of(value, arguments, path)
    if origin is Literal:
        return _choice(value, arguments, path)
    if origin in (tuple, list):
        return _sequence(value, origin, arguments, path)
    if origin is dict:
        return _mapping(value, arguments[1], path)
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise Invalid([Problem(path, "expected a group of options", value)])
        return hint(**parse(hint, value, path))
    return _scalar(value, hint, path)


def _bounded(value: Any, notes: tuple, path: str) -> Any:
    for note in notes:
        if isinstance(note, Range) and value is not None and (problem := note.problem(value)):
            raise Invalid([Problem(path, problem, value)])
    return value


def _any_of(value: Any, hints: tuple, path: str) -> Any:
    if value is None and type(None) in hints:
        return None
    failures = []
    for hint in (hint for hint in hints if hint is not type(None)):
        try:
            return convert_value(value, hint, path)
        except Invalid as error:
            failures.append(error)
    raise failures[0]


def _choice(value: Any, choices: tuple, path: str) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):  # True == 1 == 1.0
        return value
    hint = suggest(_shown(value), [choice for choice in choices if isinstance(choice, str)])
    raise Invalid([Problem(path, f"must be one of {', '.join(map(str, choices))}{hint}", value)])


def _sequence(value: Any, origin: type, arguments: tuple, path: str) -> Any:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise Invalid([Problem(path, "expected a list, such as [a,b]", value)])
    items = {str(index): item for index, item in enumerate(value)}
    return origin(_each(items, arguments[0], lambda index: f"{path}[{index}]").values())


def _mapping(value: Any, hint: Any, path: str) -> dict:
    if not isinstance(value, Mapping):
        raise Invalid([Problem(path, "expected a group of options", value)])
    return _each(value, hint, lambda key: f"{path}.{key}")


def _each(items: Mapping[str, Any], hint: Any, path_of: Callable[[str], str]) -> dict[str, Any]:
    """Convert every item; raise Invalid with the problems of all of them."""
    problems, result = [], {}
    for key, item in items.items():
        try:
            result[key] = convert_value(item, hint, path_of(key))
        except Invalid as error:
            problems += error.problems
    if problems:
        raise Invalid(problems)
    return result


_EXPECTED = {int: "an integer", float: "a number", bool: "true or false", str: "a word"}


def _scalar(value: Any, hint: type, path: str) -> Any:
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise Invalid([Problem(path, "too large a number", value)])
    if hint is str and isinstance(value, str) and UNFIT.search(value):
        raise Invalid([Problem(path, "must hold no control characters, such as a line break", value)])
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, hint):
        return value
    shown = "null" if value is None else value
    raise Invalid([Problem(path, f"expected {_EXPECTED.get(hint, hint.__name__)}", shown)])
