"""The typed configuration of one run: whole from the start, or refused with everything that is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from qexp.config import schema
from qexp.config.fingerprint import fingerprint, weights_digest
from qexp.config.identity import float_parent, identity, is_float, normalized, run_key
from qexp.config.places import data_root, file_digest, starting_checkpoint
from qexp.config.run_widths import with_run_widths
from qexp.config.schema import Invalid, Problem
from qexp.config.sections import SECTIONS, Section, own_function_problems, parse_sections
from qexp.utils.errors import UsageError
from qexp.utils.text import method_label, model_label, suggest
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

Alpha = Annotated[float, Range(low=0, high=100)]  # of a Beta distribution that at 100 gives nothing but halves
Magnitude = Annotated[int, Range(low=0, high=30)]  # of torchvision's RandAugment, which has 31 of them
Decay = Annotated[float, Range(low=0, high=0.999999)]  # an average with a decay of 1 would learn nothing


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: Count
    batch_size: Count
    eval_batch_size: Count
    holdout: NonNegativeInt
    patience: NonNegativeInt
    init: str
    width: Positive
    precision: Precision
    accumulate: Count
    label_smoothing: Fraction
    crop: NonNegativeInt
    flip: bool
    randaugment: Magnitude
    augment: dict[str, Any] | None
    mixup: Alpha
    cutmix: Alpha
    schedule: ScheduleOptions
    clip_norm: NonNegative
    ema: Decay
    dampening: NonNegative
    freezing: Fraction
    norm_batches: NonNegativeInt | None  # of a normalized configuration a number
    optimizer: RoleOptimizers


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What is logged, and how often."""

    tensorboard: bool
    figures: bool
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
    """One run, whole and normalized: what is typed here and what stands in `tree` are the same values.

    Attributes:
        tree: the normalized YAML tree that all other values come from; config.yaml of the run.
        start_digest: SHA-256 of the checkpoint that `init` names; None where it names none, or where the record of a
            run does not tell and the file is gone.
        widths_of: the run that layer_bits named, in the user's words; None where it is a list, and in a record.
    """

    dataset: Section
    model: Section
    quantizer: Section
    recipe: Recipe
    protocol: str
    bits: Bits
    weight_bits: Bits
    activation_bits: Bits
    keep_float: tuple[str, ...]
    layer_bits: tuple[str, ...]
    init: str
    float_recipe: tuple[str, ...]
    seed: NonNegativeInt
    device: str
    threads: Parallel
    workers: Parallel
    compile: bool
    channels_last: bool
    recompute: bool
    deterministic: bool
    firmness: bool
    data_dir: str | None
    runs_dir: str | None
    overwrite: bool
    on_error: Literal["continue", "stop"]
    stuck_after: Fraction | None
    checkpoint: CheckpointIntervals
    tracking: Tracking
    tree: Mapping[str, Any] = field(compare=False, repr=False)
    start_digest: str | None
    widths_of: str | None = field(default=None, compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """All that changes what the run computes."""
        return identity(self.tree, self.start_digest)

    @property
    def key(self) -> str:
        """Eight letters that identify what the run computes."""
        return run_key(self.tree, self.start_digest)

    @property
    def is_float(self) -> bool:
        """Whether this is a run of the float method."""
        return is_float(self.tree)

    @property
    def label(self) -> str:
        """`daq W2A2  resnet18 x0.25 on digits`: what is trained, with all that makes it another network."""
        method = method_label(self.quantizer.name, self.weight_bits, self.activation_bits, self.layer_bits)
        return f"{method}  {self.subject}"

    @property
    def subject(self) -> str:
        """`resnet18 x0.25 on digits`."""
        return f"{model_label(self.model.name, self.width)} on {self.dataset.name}"

    @property
    def width(self) -> float | None:
        """The factor on the channels of the model, None for a model without one."""
        return self.model.options.get("width")


GROUPS = {"recipe": Recipe, "tracking": Tracking, "checkpoint": CheckpointIntervals}

_MADE = ("tree", "start_digest", "widths_of")  # fields that no option sets


def parse_config(tree: Mapping[str, Any]) -> Config:
    """Return the configuration of a run that a resolved tree describes.

    Raises:
        Invalid: with every problem that shows without loading a dataset, model or method.
    """
    tree, widths_of, wrong = with_run_widths(tree)
    values = _typed(tree, wrong)  # as it was written, so that what is wrong is said in the user's words
    try:
        start = starting_checkpoint(values["init"], values["runs_dir"])
        digest = None if start is None else file_digest(start)
    except (UsageError, OSError) as error:
        key, _, why = str(error).partition(": ")
        raise Invalid([Problem(key, why)]) from error
    if values["float_recipe"]:
        _check_float_recipe(tree)
    made = _made(_with_digests(tree, values), digest)
    return replace(made, widths_of=widths_of if made.layer_bits else None)  # a float net has no use for them


def _check_float_recipe(tree: Mapping[str, Any]) -> None:
    """Raise Invalid for what is wrong with the recipe of the float net."""
    parent = float_parent(tree)
    try:
        _typed(parent)
    except Invalid as error:
        named = {f"recipe.{entry.partition(':')[0]}" for entry in tree["float_recipe"]}
        said = [one for one in error.problems if one.key in named] or error.problems  # other roles have the same value
        raise Invalid([replace(one, key=one.key.replace("recipe.", "float_recipe ")) for one in said]) from None
    if (kept := parent["recipe"].get("holdout", 0)) < (asked := tree["recipe"].get("holdout", 0)):
        raise Invalid([Problem("float_recipe holdout", f"must be {asked} or more, or the float net sees them", kept)])


def _with_digests(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree with what the user's own data and weights are, as a part of what a run computes."""
    data, model = values["dataset"], values["model"]
    found = {}
    with suppress(RuntimeError):  # ~somebody, which the check of the data refuses
        found["dataset"] = fingerprint(data.target, data_root(values["data_dir"]), data.options)
    with suppress(UsageError, OSError, RuntimeError):  # the check of the network says what is wrong
        found["model"] = weights_digest(model.target, model.options)
    for key in ("dataset", "model"):
        section = {name: value for name, value in tree[key].items() if name != "digest"}
        digest = found.get(key)
        tree = {**tree, key: section if digest is None else {**section, "digest": digest}}
    return dict(tree)


def recorded_config(tree: Mapping[str, Any]) -> Config:
    """Return the configuration that a run left on record; the checkpoint that it began with may be gone.

    Its parts may be of packages that are not trusted: to read a record imports nothing.

    Raises:
        Invalid: with every problem.
    """
    values, digest = _typed(tree, is_record=True), None
    with suppress(UsageError, OSError):
        if start := starting_checkpoint(values["init"], values["runs_dir"]):
            digest = file_digest(start)
    return _made(tree, digest)


def float_parent_of(config: Config) -> Config:
    """Return the configuration of the float run with the same data, model, recipe and seed."""
    return parse_config(float_parent(config.tree))


def _made(tree: Mapping[str, Any], digest: str | None) -> Config:
    """Return the configuration of a checked tree, which is normalized first: there is one set of values."""
    tree = normalized(tree)
    return Config(**_typed(tree, is_record=True), tree=tree, start_digest=digest)


def _typed(tree: Mapping[str, Any], wrong: Sequence[Problem] = (), *, is_record: bool = False) -> dict[str, Any]:
    """Return the fields of a configuration that options set, each of its type; raise Invalid, with what is `wrong`."""
    plain = {key: value for key, value in tree.items() if key not in SECTIONS}
    sections, problems = parse_sections(tree, is_record=is_record)
    problems += [*own_function_problems(tree.get("recipe"), is_record=is_record), *wrong]
    known = {key: hint for key, (hint, _) in schema.options(Config).items() if key not in (*SECTIONS, *_MADE)}
    problems += [_unknown(key, plain[key], known) for key in plain.keys() - known.keys()]
    values: dict[str, Any] = {}
    for key, hint in known.items():
        try:
            if key not in plain:
                raise Invalid([Problem(key, "missing option")])
            values[key] = schema.convert_value(plain[key], hint, key)
        except Invalid as error:
            problems += error.problems
    if problems:
        raise Invalid(problems)
    return {**values, **sections}


def _unknown(key: str, value: Any, known: Iterable[str]) -> Problem:
    if key == "trust":
        return Problem(key, "counts as a word of the command, trust=NAME, or in QEXP_TRUST; no file can say it", value)
    nested = [f"{group}.{path}" for group, kind in GROUPS.items() if (path := schema.deeper(kind, key))]
    close = f" (did you mean '{nested[0]}'?)" if nested else suggest(key, [*known, *SECTIONS])
    return Problem(key, f"unknown option{close or '; qexp train --help lists the options'}", value)
