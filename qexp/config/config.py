"""The typed configuration of one run, its checks, and the key that identifies what the run computes."""

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf

from qexp.config import schema
from qexp.config.schema import Invalid, Problem
from qexp.utils.types import (
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Precision,
    Range,
    RoleOptimizers,
    ScheduleOptions,
)

Bits = Literal[1, 2, 3, 4, 5, 6, 7, 8, 32]
Parallel = Annotated[int, Range(low=0, high=1024)]  # a million threads end in an abort of the whole process

# Keys that do not change what a run computes. `bits`, `recipe.init` and `recipe.width` act through the keys that
# refer to them, and `protocol` through the values it sets; evaluation does not depend on its batch size.
RUNTIME = (
    *("device", "threads", "workers", "compile", "channels_last", "recompute", "deterministic"),
    *("data_dir", "runs_dir", "overwrite", "on_error", "stuck_after", "checkpoint", "tracking", "bits", "protocol"),
)
INDIRECT = (("recipe", "init"), ("recipe", "width"), ("recipe", "eval_batch_size"), ("quantizer", "default_bits"))

# Options of a recipe that are younger than the first runs, with the value that means "as before": at that value they
# are not part of the key, and where a stored configuration lacks them they have it.
YOUNGER: Mapping[str, Any] = {"precision": "float32", "accumulate": 1}


@dataclass(frozen=True)
class Section:
    """A dataset, model or quantizer: its name, the qexp class or function that makes it, and that one's options."""

    name: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: Count
    batch_size: Count
    eval_batch_size: Count
    init: str
    width: Positive
    precision: Precision
    accumulate: Count
    label_smoothing: Fraction
    crop: NonNegativeInt
    flip: bool
    schedule: ScheduleOptions
    optimizer: RoleOptimizers


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What is logged, and how often."""

    tensorboard: bool
    eval_interval: Count
    step_interval: Count
    histogram_interval: NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class CheckpointIntervals:
    """How often a running training is saved; 0 for not at all."""

    steps: NonNegativeInt
    seconds: NonNegative


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. `raw` is the resolved YAML tree it was made from, `init_digest` stands for the file `init` names."""

    dataset: Section
    model: Section
    quantizer: Section
    recipe: Recipe
    protocol: str
    bits: Bits
    weight_bits: Bits
    activation_bits: Bits
    keep_float: tuple[str, ...]
    init: str
    seed: NonNegativeInt
    device: str
    threads: Parallel
    workers: Parallel
    compile: bool
    channels_last: bool
    recompute: bool
    deterministic: bool
    data_dir: str | None
    runs_dir: str | None
    overwrite: bool
    on_error: Literal["continue", "stop"]
    stuck_after: Fraction | None
    checkpoint: CheckpointIntervals
    tracking: Tracking
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    init_digest: str | None = None

    @property
    def key(self) -> str:
        """Eight letters that identify what the run computes."""
        return _hash(self.identity)

    @property
    def identity(self) -> dict[str, Any]:
        """All that changes what the run computes."""
        return identity({**self.raw, "init": self.init_digest or self.raw["init"]})


SECTIONS = ("dataset", "model", "quantizer")
GROUPS = {"recipe": Recipe, "tracking": Tracking, "checkpoint": CheckpointIntervals}


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Return the typed form of a resolved configuration tree.

    Raises:
        Invalid: with every problem that shows without loading a dataset, model or method.
    """
    plain = {key: value for key, value in raw.items() if key not in SECTIONS}
    sections, problems = parse_sections(raw)
    known = {
        key: value for key, value in schema.options(Config).items() if key not in (*SECTIONS, "raw", "init_digest")
    }
    for key in plain.keys() - known.keys():
        nested = [f"{group}.{key}" for group, kind in GROUPS.items() if key in schema.options(kind)]
        close = f" (did you mean '{nested[0]}'?)" if nested else schema.suggest(key, [*known, *SECTIONS])
        hint = close or "; qexp train --help lists the options"
        problems.append(Problem(key, f"unknown option{hint}", plain[key]))
    values: dict[str, Any] = {}
    for key, (hint, _) in known.items():
        try:
            if key not in plain:
                raise Invalid([Problem(key, "missing option")])
            values[key] = schema.convert(plain[key], hint, key)
        except Invalid as error:
            problems += error.problems
    if problems:
        raise Invalid(problems)
    found: dict[str, Any] = {**values, **sections}
    return Config(**found, raw=normalized(raw))


def parse_sections(raw: Mapping[str, Any]) -> tuple[dict[str, Section], list[Problem]]:
    """Return the dataset, model and quantizer sections that are well-formed, and what is wrong with the others."""
    sections, problems = {}, []
    for name in SECTIONS:
        try:
            sections[name] = _section(name, raw.get(name))
        except Invalid as error:
            problems += error.problems
    return sections, problems


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # part of a path, whose names have an end
_TARGET = re.compile(r"qexp(\.[A-Za-z][A-Za-z0-9_]*)+")  # no private modules, classes or functions
PLACES = {"dataset": "qexp.data.", "model": "qexp.models.", "quantizer": "qexp.quantizers."}


def _section(key: str, raw: Any) -> Section:
    if not isinstance(raw, Mapping):
        raise Invalid([Problem(key, "expected the name of a choice", raw)])
    options = dict(raw)
    name, target = options.pop("name", None), options.pop("_target_", None)
    options.pop("default_bits", None)
    problems = []
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = "must be a word of at most 64 letters, digits, '_', '-' and '.'"
        problems.append(Problem(f"{key}.name", message, name))
    if not isinstance(target, str) or not target.startswith(PLACES[key]) or not _TARGET.fullmatch(target):
        problems.append(Problem(f"{key}._target_", f"must name a {key} in {PLACES[key][:-1]}", target))
    if problems:
        raise Invalid(problems)
    return Section(str(name), str(target), options)


def conf_dir() -> Path:
    """Return the folder of the YAML files: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent.parent
    for place in (here / "conf", here.parent / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"qexp's conf/train.yaml is neither in {here} nor beside it: the installation is incomplete"
    )


def is_float(raw: Mapping[str, Any]) -> bool:
    """Whether this is a run of the float method."""
    return bool(raw["quantizer"]["name"] == "fp")


def normalized(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree without what cannot matter: a float run has no quantizer parameters and no float parent."""
    tree: dict[str, Any] = copy.deepcopy(dict(raw))
    if is_float(tree):
        tree["keep_float"] = []
        tree["init"] = "scratch" if tree["init"] == "fp" else tree["init"]
        for role in set(tree["recipe"]["optimizer"]) - {"weight", "norm"}:
            tree["recipe"]["optimizer"][role] = dict(tree["recipe"]["optimizer"]["weight"])
    return tree


def float_parent(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of the float run that `init=fp` starts from: same data, model, recipe and seed."""
    tree = copy.deepcopy(dict(raw))
    fp = OmegaConf.to_container(OmegaConf.load(conf_dir() / "quantizer" / "fp.yaml"))
    tree |= {
        "quantizer": fp,
        "bits": 32,
        "weight_bits": 32,
        "activation_bits": 32,
        "init": "scratch",
        "overwrite": False,
    }
    return normalized(tree)


def identity(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything in the tree that changes what the run computes, in one spelling."""
    tree = {key: value for key, value in copy.deepcopy(dict(raw)).items() if key not in RUNTIME}
    for group, key in INDIRECT:
        tree[group].pop(key, None)
    for key, usual in YOUNGER.items():
        if tree["recipe"].get(key) == usual:
            del tree["recipe"][key]
    return {str(key): _canonical(value) for key, value in tree.items()}


def run_key(raw: Mapping[str, Any]) -> str:
    """Return eight letters that identify what a tree computes.

    Letters only, because Hydra reads init=12345678 as an integer and init=5988e126 as infinity.
    """
    return _hash(identity(raw))


def _hash(identity: Mapping[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
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


def with_younger_options(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a stored run with those options of its recipe that came later."""
    return {**raw, "recipe": {**YOUNGER, **raw.get("recipe", {})}}


def to_yaml(raw: Mapping[str, Any]) -> str:
    """Return the tree as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(raw)))


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the tree in a YAML file."""
    return dict(OmegaConf.to_container(OmegaConf.load(path), resolve=True))  # type: ignore[arg-type]
