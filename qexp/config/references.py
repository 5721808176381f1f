"""References from option to option, `${bits}`: resolving a tree reads nothing else, and its result has a size."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qexp.config.schema import Problem

MOST_VALUES = 100_000  # of a tree

_REFERENCE = re.compile(r"\$\{(oc\.deprecated:)?\.*[A-Za-z_][\w.-]*\}")


def is_more(text: str, most: int = 0) -> bool:
    """Whether a text holds more than references to other options, or more than `most` of them; 0 for any number."""
    return "${" in _REFERENCE.sub("", text, count=most)


def strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted path, text) of every text in a tree of plain data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from strings(inner, f"{path}.{number}")
    elif isinstance(value, str):
        yield path, value


class TooLarge(OmegaConfBaseException):
    """A tree whose references stand for more than can be meant."""


def reference_problems(composed: DictConfig) -> list[Problem]:
    """Return what in qexp's part of a composed tree is more than one reference to another option.

    The environment and the clock differ between machines, and between the check and the run; what they say would be
    part of what a run computes, and of its records.
    """
    message = "may hold one reference to another option, ${key}, and nothing else"
    raw: Any = OmegaConf.to_container(composed, resolve=False)
    found = [text for key, value in raw.items() if key != "hydra" for text in strings(value, str(key))]
    return [Problem(path, message, text) for path, text in found if is_more(text, 1)]


def plain_tree(composed: DictConfig) -> dict[str, Any]:
    """Return qexp's part of a composed tree, resolved, as plain values; raise OmegaConfBaseException."""
    budget = [MOST_VALUES]
    return {str(key): _plain(composed[key], budget) for key in composed if key != "hydra"}


def _plain(value: Any, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise TooLarge(f"references stand for more than {MOST_VALUES:,} values")
    if isinstance(value, DictConfig):
        return None if value._is_none() else {key: _plain(value[key], budget) for key in value}
    if isinstance(value, ListConfig):
        return None if value._is_none() else [_plain(value[number], budget) for number in range(len(value))]
    if isinstance(value, str) and "${" in value:  # made of two parts: it would be resolved once more
        raise TooLarge(f"{value}: a reference that is made of references")
    return value
