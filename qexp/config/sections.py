"""Dataset, model and quantizer, and functions of the user's own in a recipe: what a tree says is made, looked at."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qexp.config.fingerprint import library_of
from qexp.config.schema import Invalid, Problem
from qexp.config.trust import is_own, trust_problem

SECTIONS = ("dataset", "model", "quantizer")
PLACES = {"dataset": "qexp.data.", "model": "qexp.models.", "quantizer": "qexp.quantizers."}
OWN_FUNCTIONS = ("augment", "schedule.own")  # options of a recipe that name a function of the user's own, or null
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # part of a path, whose names have an end
_TARGET = re.compile(r"qexp(\.[A-Za-z][A-Za-z0-9_]*)+")  # no private modules, classes or functions


@dataclass(frozen=True)
class Section:
    """What is made: its name, the class or function that makes it, and that one's options."""

    name: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_sections(raw: Mapping[str, Any], *, is_record: bool = False) -> tuple[dict[str, Section], list[Problem]]:
    """Return the dataset, model and quantizer sections that are well-formed, and what is wrong with the others.

    Args:
        raw: the tree.
        is_record: of a run, which is only read: parts of packages that are not trusted are well-formed there.
    """
    sections, problems = {}, []
    for name in SECTIONS:
        try:
            sections[name] = _section(name, raw.get(name), is_record)
        except Invalid as error:
            problems += error.problems
    return sections, problems


def _section(key: str, raw: Any, is_record: bool) -> Section:
    if not isinstance(raw, Mapping):
        raise Invalid([Problem(key, "expected the name of a choice", raw)])
    options = dict(raw)
    name, target = options.pop("name", None), options.pop("_target_", None)
    for other in ("default_bits", "default_norm_batches", "digest"):  # no options of the class
        options.pop(other, None)
    problems = []
    if isinstance(target, str) and library_of(target) and not _NAME.fullmatch(str(network := options.get("network"))):
        problems.append(Problem(f"{key}.network", "must be the name of a network, such as resnet50", network))
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        message = "must be a word of at most 64 letters, digits, '_', '-' and '.'"
        problems.append(Problem(f"{key}.name", message, name))
    if isinstance(target, str) and is_own(target):
        if not is_record and (problem := trust_problem(target)):
            problems.append(Problem(f"{key}._target_", problem, target))
    elif not isinstance(target, str) or not target.startswith(PLACES[key]) or not _TARGET.fullmatch(target):
        where = f"{PLACES[key][:-1]}, or in a package of your own"
        problems.append(Problem(f"{key}._target_", f"must name a {key} in {where}", target))
    if problems:
        raise Invalid(problems)
    return Section(str(name), str(target), options)


def named_functions(recipe: Any) -> Iterator[Section]:
    """Yield the functions of the user's own that a recipe names, each under its key, `recipe.augment` say."""
    for name in OWN_FUNCTIONS:
        found = recipe
        for key in name.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            options = {str(key): value for key, value in found.items() if key != "_target_"}
            yield Section(f"recipe.{name}", str(found.get("_target_", "")), options)


def own_function_problems(recipe: Any, *, is_record: bool = False) -> list[Problem]:
    """Return what is wrong with the names of these functions; those of a record may be of any package."""
    problems = []
    for section in named_functions(recipe):
        if not is_own(section.target):
            message = "must name a function of a package of your own, such as my_package.module.name"
            problems.append(Problem(f"{section.name}._target_", message, section.target or None))
        elif not is_record and (problem := trust_problem(section.target)):
            problems.append(Problem(f"{section.name}._target_", problem, section.target))
    return problems
