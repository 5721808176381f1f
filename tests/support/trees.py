"""Configurations as plain trees, with other values in them."""

import json
from collections.abc import Iterator
from typing import Any

from qexp.config.identity import YOUNGER


def changed(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the tree with another value at `a.b.c`."""
    tree = json.loads(json.dumps(raw))
    *groups, last = path.split(".")
    node = tree
    for group in groups:
        node = node[group]
    node[last] = value
    return tree


def without_younger(raw: dict[str, Any]) -> dict[str, Any]:
    """The tree as a run stored it before the younger options."""
    tree = json.loads(json.dumps(raw))
    for path in YOUNGER:
        remove(tree, f"recipe.{path}")
    return tree


def remove(tree: dict[str, Any], path: str) -> None:
    """Take the value at `a.b.c` out of the tree."""
    *groups, last = path.split(".")
    for group in groups:
        tree = tree[group]
    del tree[last]


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in the tree that is not a group."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def other(value: Any) -> Any:
    """A value of the same kind that is not `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "more"]
    return "something" if value is None else f"{value}x"
