"""`layer_bits=RUN`: the widths of all layers of a finished run, as the entries of layer_bits that spell them out.

A run is of the widths, not of where they come from: what is trained with layer_bits=RUN has the key that the spelled
list has, and its record stays whole when RUN is gone.
"""

import glob
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from qexp.config.places import find_run, store_root
from qexp.config.schema import Problem
from qexp.config.yaml_files import load_yaml
from qexp.utils.errors import UsageError
from qexp.utils.files import read_json
from qexp.utils.text import UNFIT, one_line

_SIDES = ("weight", "input")
_WIDTHS = (*range(1, 9), 32)
_DONE = ("done", "running", "interrupted")  # the last two of a process that was killed after it wrote the summary
_MOST_LAYERS = 10_000
_OF_WEIGHTS = ("digest", "pretrained")  # options of a network that do not say what layers it has


def with_run_widths(tree: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, list[Problem]]:
    """Return a tree in which layer_bits is a list, the run that it named, and what is wrong with that run.

    Where something is wrong, layer_bits is empty, so that all else can be looked at.
    """
    text = tree.get("layer_bits")
    if not isinstance(text, str):
        return dict(tree), None, []
    try:
        entries, problems = run_widths(text, tree), []
    except (UsageError, OSError, RuntimeError, ValueError) as error:  # the last ones of a path that can be none
        entries, problems = [], [Problem("layer_bits", str(error), text)]
    return {**tree, "layer_bits": entries}, text, problems


def run_widths(text: str, tree: Mapping[str, Any]) -> list[str]:
    """Return `NAME:weight:BITS`, `NAME:input:BITS` for every layer of a finished run, 32 for float.

    Args:
        text: names the run: its directory, or the beginning of its hash.
        tree: of the run that is to have these widths.

    Raises:
        UsageError: no such run, one without a result or without widths, or one of another network.
    """
    store = tree.get("runs_dir")
    try:
        path = find_run(store_root(store if isinstance(store, str) else None), text)
    except UsageError as error:
        raise UsageError(f'must be a list such as ["layer1.*:4"], or a finished run; {error}') from None
    summary, state = read_json(path / "summary.json"), (read_json(path / "status.json") or {}).get("state", "done")
    if summary is None or state not in _DONE:
        raise UsageError(f"that run has no result, and so no widths: {path}")
    _check_network(_record(path).get("model"), tree.get("model"), path)
    if summary.get("quantizer") == "fp":
        raise UsageError(f"that run is of a float net, whose layers have no bits: {path}")
    layers = summary.get("layers")
    found = layers.get("bits") if isinstance(layers, Mapping) else None
    named = list(found.items()) if isinstance(found, Mapping) else []
    if not 0 < len(named) <= _MOST_LAYERS or not all(starmap(_is_layer, named)):
        raise UsageError(f"its summary.json does not tell the bits of each layer: {path}")
    return [f"{exactly(name)}:{side}:{bits}" for name, own in named for side, bits in zip(_SIDES, own, strict=True)]


def _is_layer(name: str, bits: Any) -> bool:
    """Whether this is the name of a layer and the bits of its two sides."""
    is_name = len(name) <= 1000 and ":" not in name and not UNFIT.search(name)
    is_pair = isinstance(bits, list) and len(bits) == 2
    return is_name and is_pair and all(type(own) is int and own in _WIDTHS for own in bits)


def exactly(name: str) -> str:
    """Return the pattern that fits the layer of this name alone."""
    return f"[{name[0]}]{name[1:]}" if name in ("first", "last") else glob.escape(name)


def _record(path: Path) -> dict[str, Any]:
    try:
        return load_yaml(path / "config.yaml")
    except (OSError, KeyError, TypeError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        why = one_line(str(error).partition("\n")[0])
        raise UsageError(f"its config.yaml cannot be read ({why}): {path}") from error


def _check_network(theirs: Any, ours: Any, path: Path) -> None:
    """Raise UsageError where two sections of a model do not name the same layers."""
    if not isinstance(theirs, Mapping):
        raise UsageError(f"its config.yaml names no network: {path}")
    if not isinstance(ours, Mapping):
        return  # the check of the sections says it
    for key in dict.fromkeys(("name", *theirs, *ours)):
        if key not in _OF_WEIGHTS and theirs.get(key) != ours.get(key):
            option = "model" if key == "name" else f"model.{key}"
            there, here = (one_line(str(one.get(key)), 80) for one in (theirs, ours))
            raise UsageError(f"that run is of another network: {option}={there} there, {here} here ({path})")
