"""Which options vary among runs, and which of these need no word of their own because others explain them."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

from qexp.config.identity import INDIRECT, OF_HARD, RUNTIME, YOUNGER, usual_tree, younger_of_method
from qexp.config.places import choices

Options = Mapping[str, Hashable]  # dotted key -> value

# What a run is called by; tables have columns of their own for these.
NAMES = ("dataset", "model", "model.width", "quantizer", "weight_bits", "activation_bits", "seed", "protocol")

_GROUPS = ("dataset", "model", "quantizer", "recipe")  # the order of their options; what has no group comes last
_CHOSEN = ("dataset", "model", "quantizer", "protocol")  # what decides the usual values of all other options
_NO_OPTIONS = frozenset({*(f"{group}.{key}" for group, key in INDIRECT), *RUNTIME}) - {"protocol"}
_MANY = 3  # options that differ in the same runs, as those of another recipe do: beyond this the first stands for all
_LIVE_ROLES = ("weight", "norm")  # of a float net
_HANDFUL = 8  # entries of a list that are shown; layer_bits may have one for every layer
_MISSING = object()


@dataclass(frozen=True)
class Variation:
    """What varies among some runs.

    Attributes:
        names: those of NAMES that vary.
        options: the other dotted keys that vary; not those that follow from dataset, model, quantizer, protocol and
            recipe, as its epochs do. `recipe` is one of them where a run has not that of its dataset.
        along: one of `options` -> more keys that differ in the same runs.
    """

    names: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    along: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class OptionReader:
    """Takes configurations apart; a section that many runs share (runs/stored_trees.py) is taken apart once."""

    def __init__(self) -> None:
        self._sections: dict[int, tuple[Any, Options]] = {}  # the section too, so that its id stays its own
        self._recipes: dict[tuple[Hashable, ...], str | None] = {}

    def options(self, tree: Mapping[str, Any]) -> dict[str, Hashable]:
        """Return all that a configuration says of what is computed, with `protocol`, as far as it can be read.

        A section that has a name stands for it: `quantizer` is dqa, `recipe.schedule` cosine. What cannot matter to a
        float run, such as the optimizer of clips, it has not.
        """
        found: dict[str, Hashable] = {}
        for key, value in tree.items():
            if key in _NO_OPTIONS:
                continue
            if not isinstance(value, Mapping):
                found[key] = _hashable(value)
                continue
            if id(value) not in self._sections:
                self._sections[id(value)] = value, dict(_section(str(key), value))
            found |= self._sections[id(value)][1]
        for key in _NO_OPTIONS & found.keys():  # those inside sections
            del found[key]
        if found.get("quantizer") == "fp":
            found = _that_matter(found)
        return self._recipe(found, tree.get("recipe")) | found

    def _recipe(self, found: Options, section: Any) -> dict[str, Hashable]:
        """Return the name of the recipe that a run has; configurations do not tell it, but all that it sets."""
        chosen = tuple(found.get(name) for name in _CHOSEN)
        if not isinstance(section, Mapping) or not all(isinstance(name, str) for name in chosen):
            return {}
        if (place := (id(section), *chosen)) not in self._recipes:
            self._recipes[place] = _nearest_recipe(found)
        name = self._recipes[place]
        return {} if name is None else {"recipe": name}


def _section(key: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Hashable]]:
    yield from _leaves(key, section)
    younger = _younger_of_recipes() if key == "recipe" else {}
    if key == "quantizer":
        younger = {f"quantizer.{name}": usual for name, usual in younger_of_method(section).items()}
    present = {name for name, _ in _leaves(key, section)} if younger else set()
    yield from ((name, usual) for name, usual in younger.items() if name not in present)


@cache
def _younger_of_recipes() -> Options:
    """Return dotted key -> "as before" of those options of a recipe that came later; a role is called by its name."""
    found: dict[str, Hashable] = {}
    for key, usual in YOUNGER.items():
        own = _leaves(f"recipe.{key}", usual) if isinstance(usual, Mapping) else [(f"recipe.{key}", _hashable(usual))]
        found |= dict(own)
    return found


def _leaves(key: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Hashable]]:
    if "name" in section:
        yield key, _hashable(section["name"])
    elif "_target_" in section:  # a function of the user's own, which has no name besides
        yield key, _hashable(section["_target_"])
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{key}.{name}", value)
        elif name not in ("name", "_target_"):
            yield f"{key}.{name}", _hashable(value)


def _hashable(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _that_matter(options: dict[str, Hashable]) -> dict[str, Hashable]:
    """Return those options that matter to a float run."""
    idle = {"keep_float", *(f"recipe.{key}" for key in OF_HARD)}
    live = tuple(f"recipe.optimizer.{role}" for role in _LIVE_ROLES)
    return {
        key: value
        for key, value in options.items()
        if key not in idle and (not key.startswith("recipe.optimizer.") or key.startswith(live))
    }


def variation(runs: Sequence[Options]) -> Variation:
    """Return what varies among runs: an option that only some of them have varies if those differ in it."""
    values: dict[str, set[Hashable]] = {}
    for run in runs:
        for key, value in run.items():
            values.setdefault(key, set()).add(value)
    changed = [key for key, found in values.items() if len(found) > 1]
    kept = [key for key in changed if key not in NAMES and not all(is_usual(run, key) for run in runs)]
    kept.sort(key=lambda key: _GROUPS.index(group) if (group := key.partition(".")[0]) in _GROUPS else len(_GROUPS))
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for key in kept:
        alike.setdefault((key.partition(".")[0], _partition(runs, key)), []).append(key)
    along = {keys[0]: tuple(keys[1:]) for keys in alike.values() if len(keys) > _MANY}
    hidden = {key for keys in along.values() for key in keys}
    names = tuple(name for name in NAMES if name in changed)
    return Variation(names, tuple(key for key in kept if key not in hidden), along)


def is_usual(run: Options, key: str) -> bool:
    """Whether an option has the value that dataset, model, quantizer, protocol and recipe of the run give it."""
    if key not in run:
        return True
    if key == "recipe":
        return run[key] == run.get("dataset")
    usual = _usual(run, run.get("recipe"))
    return usual is not None and usual.get(key, _MISSING) == run[key]


def is_told(run: Options, key: str) -> bool:
    """Whether an option has to be told of a single run: what it is called by does not tell it, and it is not usual."""
    usual = _usual(run, run.get("recipe"))
    if usual is None or key in NAMES or (run[key] is None and key not in usual):  # null is what no file says, too
        return False
    return not is_usual(run, key)


def _nearest_recipe(run: Options) -> str | None:
    """Return the recipe of qexp's that a run has: that of its dataset, unless another explains more."""
    own = str(run["dataset"])
    distance = _distance(run, own)
    if distance is not None and distance < _MANY:
        return own
    apart = {name: found for name in choices("recipe") if (found := _distance(run, name)) is not None}
    nearest = min(apart, key=lambda name: apart[name], default=None)
    if distance is None or nearest is None:
        return nearest
    return own if distance - apart[nearest] < _MANY else nearest


def _distance(run: Options, recipe: str) -> int | None:
    """Return in how many options a run differs from a recipe; None where that is not known."""
    usual = _usual(run, recipe)
    if usual is None:
        return None
    return sum(run[key] != usual.get(key, _MISSING) for key in run if key.startswith("recipe."))


def _usual(run: Options, recipe: object) -> Options | None:
    chosen = [run.get(name) for name in _CHOSEN]
    if not all(isinstance(name, str) for name in (*chosen, recipe)):
        return None
    return _usual_options(*map(str, (*chosen, recipe)))


@cache
def _usual_options(dataset: str, model: str, quantizer: str, protocol: str, recipe: str) -> Options | None:
    tree = usual_tree(dataset, model, quantizer, recipe, protocol)
    if tree is None:
        return None
    found: dict[str, Hashable] = {}
    for key, value in tree.items():
        found |= dict(_section(key, value)) if isinstance(value, Mapping) else {key: _hashable(value)}
    return found


def options_of_methods() -> dict[str, Hashable]:
    """Return all options that qexp's own methods have, `quantizer.penalty` and so on, at a usual value."""
    found: dict[str, Hashable] = {}
    for name in choices("quantizer"):
        tree = usual_tree("digits", "resnet18", name, "digits", "paper")
        found |= dict(_section("quantizer", tree["quantizer"])) if tree else {}
    return {key: value for key, value in found.items() if key.startswith("quantizer.") and key not in _NO_OPTIONS}


def _partition(runs: Sequence[Options], key: str) -> tuple[int, ...]:
    """Return for each run a number that it shares with those of the same value at `key`; usual values are one."""
    numbers: dict[object, int] = {}
    values = (_MISSING if is_usual(run, key) else run[key] for run in runs)
    return tuple(numbers.setdefault(value, len(numbers)) for value in values)


def shown(value: object) -> str:
    """Return a value as a command line spells it: `true`, `null`, `[first,last]`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list | tuple) else str(value)


def brief(value: object) -> str:
    """Return a value as `shown`, but a list of more than a handful by its length and a word that stands for it."""
    if not isinstance(value, list | tuple) or len(value) <= _HANDFUL:
        return shown(value)
    digest = sha256(shown(value).encode(errors="replace")).hexdigest()[:6]
    return f"[{shown(value[0])},... {len(value) - 1} more, {digest}]"
