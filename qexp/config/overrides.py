"""The words of a command: which are overrides, what each chooses, and the jobs that a sweep makes of them."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from qexp.config.schema import Problem
from qexp.config.trust import is_own
from qexp.utils.text import UNFIT, few, suggest

GROUPS = ("dataset", "model", "quantizer", "recipe", "protocol")
TABLES = "paper"  # a folder of conf that Hydra takes for one more group
SYNTAX_ERRORS = (HydraException, ValueError, OverflowError, RecursionError)  # of Hydra's parser and of what it calls
MOST_JOBS = 10_000  # of a sweep
HYDRAS = re.compile(r"hydra\b")  # how Hydra's own keys and groups begin
OWN_FUNCTIONS = ("recipe.augment", "recipe.schedule.own")  # groups of options that name a function by _target_
DEEPEST = 20  # brackets in brackets: some of Hydra's functions call themselves for each


def parse_word(parser: OverridesParser, word: str) -> list[Override]:
    """Return the override that a word is; raise one of SYNTAX_ERRORS."""
    if UNFIT.search(word) or _depth(word) > DEEPEST:
        raise ValueError("holds control characters, or too many brackets in brackets")
    return parser.parse_overrides([word])


def _depth(word: str) -> int:
    """Return how deep brackets are in brackets."""
    return max(accumulate((letter in "[{(") - (letter in "]})") for letter in word), default=0)


def is_plain(override: Override) -> bool:
    """Whether this chooses one of qexp's groups, or gives one value to one key."""
    key, line = override.key_or_group, str(override.input_line)
    if override.is_delete() or override.is_sweep_override() or override.package is not None:
        return False
    if key in GROUPS:
        return line.startswith(f"{key}=") and isinstance(override.value(), str)
    return "/" not in key and not HYDRAS.match(key)


def override_problem(override: Override, choices: Sequence[str]) -> Problem | None:
    """Return what is wrong with an override that chooses from a group, or that qexp cannot honor.

    Args:
        override: of the command.
        choices: that its key offers; none where it is no group.
    """
    group, line, value = override.key_or_group, str(override.input_line), override.value()
    if override.is_delete():
        return Problem(line, "nothing can be deleted; set another value")
    if not group:
        return Problem(line, "expected key=value")
    if group.split("/")[0] == TABLES:
        return Problem(line, "is a table; qexp table shows and runs it")
    if group == "hydra.job.chdir" and value:
        return Problem(line, "qexp keeps the working directory; runs_dir= says where runs go")
    if group == "hydra.searchpath":
        return Problem(line, "qexp has its own configuration; --config-dir adds a folder to it")
    if group in OWN_FUNCTIONS and isinstance(value, str):
        form = value if is_own(value) else "my_package.module.name"
        return Problem(line, f"expected a group of options, such as '{group}={{_target_: {form}}}'")
    if group not in GROUPS:
        leads_away = isinstance(value, str) and (value.startswith("/") or ".." in value.split("/"))
        return Problem(line, "leads out of the folder of choices") if leads_away and choices else None
    if isinstance(value, str) and value in choices:
        return None
    shown = "null" if value is None else value
    hint = suggest(str(value), choices)
    return Problem(f"{group}={shown}", f"no such {group}{hint}; there are {few(choices, len(choices))}")


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the words of every job of a sweep: all combinations of the values, the last word's varying fastest.

    Raises:
        HydraException: a sweep that has no list of values, no job, or too many.
    """
    values: dict[str, list[str]] = {}  # of two words for one key the later one counts
    if not 0 < (count := math.prod(map(_number, overrides))) <= MOST_JOBS:
        raise HydraException(
            "an empty sweep has no job to run" if not count else f"{count:,} jobs are more than {MOST_JOBS:,}"
        )
    for override in overrides:
        key = override.get_key_element()
        values[key] = [f"{key}={value}" for value in _values(override)]
    return [list(words) for words in itertools.product(*values.values())]


def _values(override: Override) -> Iterator[str]:
    return (
        override.sweep_string_iterator()
        if override.is_sweep_override()
        else iter([override.get_value_element_as_str()])
    )


def _number(override: Override) -> float:
    """Return how many values an override names, without making them."""
    sweep = override.value()
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise HydraException(f"{override.input_line}: an interval is no list of values; say range(...) or a,b,c")
    if isinstance(sweep, RangeSweep):
        if not sweep.step:
            raise HydraException(f"{override.input_line}: a range needs a step that is not 0")
        return max(0, math.ceil((sweep.stop - sweep.start) / sweep.step))  # type: ignore[operator]
    return len(list(override.sweep_iterator())) if override.is_sweep_override() else 1
