"""What a run computes, as a tree of plain values: normalized, without what cannot matter, and hashed to its key."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from qexp.config.places import conf_dir
from qexp.config.schema import Invalid, Problem
from qexp.utils.text import suggest

# Keys that do not change what a run computes. `bits`, `recipe.init` and `recipe.width` act through the keys that
# refer to them, and `protocol` through the values it sets; evaluation does not depend on its batch size.
RUNTIME = (
    *("device", "threads", "workers", "compile", "channels_last", "recompute", "deterministic", "firmness"),
    *("data_dir", "runs_dir", "overwrite", "on_error", "stuck_after", "checkpoint", "tracking", "bits", "protocol"),
)
# Where images lie is no part either: the fingerprint of their names and sizes stands for them.
INDIRECT = (
    *(("recipe", "init"), ("recipe", "width"), ("recipe", "eval_batch_size"), ("dataset", "path")),
    *(("quantizer", "default_bits"), ("quantizer", "default_norm_batches")),
)

# Options of a recipe that are younger than the first runs, `a.b` for one in a group, with the value that means "as
# before": at that value they are not part of the key, and where a stored configuration lacks them they have it.
_ADAM = {"name": "adam", "lr": 1e-3, "momentum": 0.9, "nesterov": False, "weight_decay": 0}
YOUNGER: Mapping[str, Any] = {
    "precision": "float32",
    "accumulate": 1,
    "schedule.end": 0.0,
    "dampening": 0.0,
    "freezing": 0.0,
    "norm_batches": 0,
    "clip_norm": 0.0,
    "ema": 0.0,
    "holdout": 0,
    "patience": 0,
    "randaugment": 0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "augment": None,
    "schedule.own": None,
    "schedule.restarts": [],
    "optimizer.mask": {**_ADAM, "lr": 1e-2},
    "optimizer.bits": {**_ADAM, "lr": 1e-2},
    "optimizer.noise": _ADAM,
}
_YOUNGER_OUTSIDE: Mapping[str, Any] = {
    "layer_bits": [],
    "float_recipe": [],
    "firmness": False,
}  # the same, for those not of a recipe

_YOUNGER_OF_TRACKING: Mapping[str, Any] = {"figures": True}

# Options of methods that are younger than their runs: what they are made of -> option -> "as before".
_YOUNGER_OF_METHODS: Mapping[str, Mapping[str, Any]] = {
    f"qexp.quantizers.{made}": {"granularity": "tensor"} for made in ("ste.STE", "br.BR", "dqa.DQA", "daq.DAQ")
}

_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "null": None}

LIBRARIES = ("torchvision", "timm")  # whose YAML files stand for many networks
OF_CODES = ("dampening", "freezing")  # options of a recipe that act on codes of weights
OF_HARD = (*OF_CODES, "norm_batches")  # and those that do nothing for a float net


def is_float(tree: Mapping[str, Any]) -> bool:
    """Whether this is a run of the float method."""
    return bool(tree["quantizer"]["name"] == "fp")


def normalized(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree without what cannot matter: a float run has no codes, quantizer parameters or parent."""
    found: dict[str, Any] = copy.deepcopy(dict(tree))
    if is_float(found) or found["init"] != "fp":
        found["float_recipe"] = []
    if is_float(found):
        found["keep_float"] = []
        found["layer_bits"] = []
        found["init"] = "scratch" if found["init"] == "fp" else found["init"]
        found["recipe"] |= {key: YOUNGER[key] for key in OF_HARD if key in found["recipe"]}
        for role in set(found["recipe"]["optimizer"]) - {"weight", "norm"}:
            usual = YOUNGER.get(f"optimizer.{role}", found["recipe"]["optimizer"]["weight"])
            found["recipe"]["optimizer"][role] = dict(usual)
    elif found["recipe"].get("norm_batches", 0) is None:
        found["recipe"]["norm_batches"] = found["quantizer"].get("default_norm_batches", 0)
    return found


def float_parent(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of the float run that `init=fp` starts from: same data, model, seed, and recipe.

    The recipe is the same but for what float_recipe says.

    Raises:
        Invalid: an entry of float_recipe that is no option of the recipe.
    """
    fp = OmegaConf.to_container(OmegaConf.load(conf_dir() / "quantizer" / "fp.yaml"))
    as_float = {"quantizer": fp, "bits": 32, "weight_bits": 32, "activation_bits": 32}
    recipe = _changed(tree["recipe"], tree.get("float_recipe", ()))
    return normalized({**tree, **as_float, "recipe": recipe, "init": "scratch", "overwrite": False})


def _changed(recipe: Mapping[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """Return a recipe with some options changed, `epochs:300` or `optimizer.weight.lr:0.1` each."""
    found = copy.deepcopy(dict(recipe))
    for entry in entries:
        path, colon, text = str(entry).partition(":")
        place, key = _place(found, path)
        if not colon or isinstance(place.get(key, {}), dict | list) or ("recipe", path) in INDIRECT:
            known = [path for path in _paths(recipe) if ("recipe", path) not in INDIRECT]
            hint = ", such as epochs:300" if path in known else suggest(path, known) or ", such as epochs:300"
            raise Invalid([Problem("float_recipe", f"is not OPTION:VALUE of the recipe{hint}", entry)])
        place[key] = _plain_value(text.strip())
    return found


def _plain_value(text: str) -> Any:
    """Return a number, true, false, null, or the word itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def identity(tree: Mapping[str, Any], start_digest: str | None = None) -> dict[str, Any]:
    """Return everything in a normalized tree that changes what the run computes, in one spelling.

    Args:
        tree: of the run.
        start_digest: SHA-256 of the checkpoint that `init` names, which stands in place of its path.
    """
    found = {key: value for key, value in copy.deepcopy(dict(tree)).items() if key not in RUNTIME}
    if start_digest is not None:
        found["init"] = start_digest
    if "digest" in found["model"]:  # of the weights that `pretrained` names, which stands in place of their path
        found["model"].pop("pretrained", None)
    for group, key in INDIRECT:
        found[group].pop(key, None)
    for path, usual in YOUNGER.items():
        place, name = _place(found["recipe"], path)
        if name in place and place[name] == usual:
            del place[name]
    for key, usual in _YOUNGER_OUTSIDE.items():
        if found.get(key) == usual:
            del found[key]
    for key, usual in younger_of_method(found["quantizer"]).items():
        if found["quantizer"].get(key) == usual:
            del found["quantizer"][key]
    return {str(key): _canonical(value) for key, value in found.items()}


def run_key(tree: Mapping[str, Any], start_digest: str | None = None) -> str:
    """Return eight letters that identify what a run computes; for the arguments see `identity`.

    Letters only, because Hydra reads init=12345678 as an integer and init=5988e126 as infinity.
    """
    text = json.dumps(identity(tree, start_digest), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8].translate(str.maketrans("0123456789", "ghijklmnop"))


def _canonical(value: Any) -> Any:
    """Make 1 and 1.0 the same, and lists and tuples."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def with_younger_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a stored run with those options that came later."""
    recipe = copy.deepcopy(dict(tree.get("recipe", {})))
    for path, usual in YOUNGER.items():
        group, key = _place(recipe, path)
        group.setdefault(key, copy.deepcopy(usual))
    found = {**copy.deepcopy(dict(_YOUNGER_OUTSIDE)), **tree, "recipe": recipe}
    if isinstance(tracking := tree.get("tracking"), Mapping):
        found["tracking"] = {**_YOUNGER_OF_TRACKING, **tracking}
    if younger := younger_of_method(tree.get("quantizer")):
        found["quantizer"] = {**younger, **tree["quantizer"]}
    return found


def younger_of_method(method: Any) -> Mapping[str, Any]:
    """Return those options of the quantizer's section of a tree that came later, at the values for "as before"."""
    return _YOUNGER_OF_METHODS.get(str(method.get("_target_")), {}) if isinstance(method, Mapping) else {}


def usual_tree(dataset: str, model: str, quantizer: str, recipe: str, protocol: str) -> dict[str, Any] | None:
    """Return the tree that a run has where nothing but these is chosen; None where qexp has no such YAML file."""
    library, _, network = model.partition("-")  # torchvision-resnet50: torchvision.yaml with another network
    if network and library in LIBRARIES:
        model = library
    chosen = {"dataset": dataset, "model": model, "quantizer": quantizer, "recipe": recipe}
    files = {group: conf_dir() / group / f"{name}.yaml" for group, name in (*chosen.items(), ("protocol", protocol))}
    if any(file not in set(file.parent.glob("*.yaml")) for file in files.values()):
        return None
    tree = OmegaConf.merge(_file(conf_dir() / "train.yaml"), {group: _file(files[group]) for group in chosen})
    if model in LIBRARIES:
        tree.model.network = network or tree.model.network
    found: Any = OmegaConf.to_container(OmegaConf.merge(tree, _file(files["protocol"])), resolve=True)
    return normalized(found)


@cache
def _file(path: Path) -> Any:
    """Return the options in one of qexp's own YAML files."""
    tree: Any = OmegaConf.load(path)
    for key in {"defaults", "hydra"} & set(tree):
        del tree[key]
    return tree


def _place(recipe: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return the group of a recipe that an option lies in, and its key there; without such a group, an empty one."""
    *groups, key = path.split(".")
    for group in groups:
        found = recipe.get(group)
        recipe = found if isinstance(found, dict) else {}
    return recipe, key
