"""Compose and check every job of a command line before anything is created.

Hydra stops at its first error and accepts unknown keys behind `+`. Here every override is forced into the tree, so
that one pass finds all that is wrong; Hydra's own run comes after, with the same words.
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from hydra import compose
from hydra import version as hydra_version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from qexp.config import schema
from qexp.config.config import Config, conf_dir, parse_config
from qexp.config.plugins import plugin_problems
from qexp.config.schema import Invalid, Problem
from qexp.utils.errors import UsageError

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, RecursionError)
GROUPS = ("dataset", "model", "quantizer", "recipe", "protocol")
TABLES = "paper"  # a folder of conf that Hydra takes for one more group
SYNTAX_ERRORS = (HydraException, ValueError, OverflowError, RecursionError)  # of Hydra's parser and of what it calls
MOST_JOBS = 10_000  # of a sweep: composing them takes ten minutes
HYDRAS = re.compile(r"hydra\b")  # how Hydra's own keys and groups begin
DEEPEST = 20  # brackets in brackets: some of Hydra's functions call themselves for each


@dataclass(frozen=True)
class Job:
    """One job of a command: its overrides, its tree, and its configuration or what is wrong with it."""

    overrides: tuple[str, ...]
    raw: Mapping[str, Any]
    config: Config | None
    problems: tuple[Problem, ...]


@contextmanager
def composing(config_dir: str | None = None) -> Iterator[None]:
    """Make `compose` see qexp's configuration, and the user's own folder after it, as hydra.main does.

    Raises:
        UsageError: there is no such folder.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {schema.one_line(config_dir)}: no such folder")
    GlobalHydra.instance().clear()
    hydra_version.setbase("1.3")
    path = create_config_search_path(str(conf_dir()))
    if config_dir:
        folder = f"file://{Path(config_dir).resolve()}"
        path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    Hydra.create_main_hydra2(task_name="qexp", config_search_path=path)
    try:
        with warnings.catch_warnings(action="ignore"):  # ${oc.deprecated:...}; the run itself shows them
            yield
    finally:
        GlobalHydra.instance().clear()


def parse_overrides(words: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Return the overrides among `words`, and a problem for each word that is none."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    overrides, problems = [], []
    for word in words:
        try:
            if schema.UNFIT.search(word) or _depth(word) > DEEPEST:
                problems.append(Problem(word, "holds control characters, or too many brackets in brackets"))
            else:
                overrides += parser.parse_overrides([word])
        except SYNTAX_ERRORS:
            guess = next((group for group in GROUPS if word in choices(group)), None)
            hint = f" (did you mean {guess}={word}?)" if guess else "; quote values that hold special characters"
            problems.append(Problem(word, f"expected key=value{hint}"))
    return overrides, problems


def _depth(word: str) -> int:
    """Return how deep brackets are in brackets."""
    return max(accumulate((letter in "[{(") - (letter in "]})") for letter in word), default=0)


def choices(group: str) -> list[str]:
    """Return the names that a group offers."""
    return list(GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG))


def expand(
    overrides: Sequence[Override], *, multirun: bool, config_name: str = "train"
) -> tuple[list[list[str]], list[Problem]]:
    """Return the overrides of every job, and a problem for each sweep without -m.

    A sweeper other than Hydra's basic one chooses its jobs while it runs; then there is one job, without the sweeps.
    """
    single = [override for override in overrides if not override.is_sweep_override()]
    fixed = [str(override.input_line) for override in single]
    if not multirun:
        problems = [
            Problem(str(override.input_line), "names several values; to run them all, add -m")
            for override in overrides
            if override.is_sweep_override()
        ]
        return [fixed], problems + _as_written(single, config_name)
    if problems := [
        Problem(str(override.input_line), "Hydra's own options are the same for all jobs of a sweep")
        for override in overrides
        if override.is_sweep_override() and HYDRAS.match(override.key_or_group)
    ]:
        return [fixed], problems
    try:
        tree = _compose(config_name, [forced(override) for override in single if group_problem(override) is None])
        if plugin_problems(tree.hydra) or not tree.hydra.sweeper._target_.endswith("BasicSweeper"):
            return [fixed], []
    except COMPOSITION_ERRORS:
        return [fixed], []  # the job says the same
    sweeper = tree.hydra.sweeper
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    try:
        everything = [*parser.parse_overrides([f"{k}={v}" for k, v in (sweeper.params or {}).items()]), *overrides]
        if not 0 < (count := math.prod(map(_number, everything))) <= MOST_JOBS:
            said = "an empty sweep has no job to run" if not count else f"{count:,} jobs are more than {MOST_JOBS:,}"
            return [fixed], [Problem("-m", said)]
        lists = BasicSweeper.split_arguments(everything, None)[0]
        return lists, _as_written(parser.parse_overrides(lists[0]), config_name)
    except SYNTAX_ERRORS as error:
        return [fixed], [Problem("-m", explain(error)[1])]


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


def compose_job(words: Sequence[str], config_name: str = "train") -> Job:
    """Compose one job and return its configuration, or everything that is wrong with it."""
    problems: list[Problem] = []
    raw: Any = {}
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
        found = [(override, group_problem(override)) for override in overrides]
        problems = [problem for _, problem in found if problem]
        tree = _compose(config_name, [forced(override) for override, problem in found if not problem])
        problems += plugin_problems(tree.hydra)
        with open_dict(tree):
            del tree["hydra"]
        raw = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
        config = parse_config(raw)
    except Invalid as error:
        return Job(tuple(words), raw, None, (*problems, *_without_echoes(error.problems, tree)))
    except COMPOSITION_ERRORS as error:
        return Job(tuple(words), raw, None, (*problems, Problem(*explain(error))))
    return Job(tuple(words), raw, None if problems else config, tuple(problems))


def _as_written(overrides: Sequence[Override], config_name: str) -> list[Problem]:
    """Return what Hydra refuses in overrides though it takes them when forced: +seed=1, and seed.x=1 before seed=1."""
    keys = [override.key_or_group for override in overrides if not choices(override.key_or_group)]
    clashing = [one for one in keys if any(one.startswith(f"{other}.") for other in keys)]
    if not clashing and not any(override.is_add() for override in overrides):
        return []
    try:
        _compose(config_name, [str(override.input_line) for override in overrides])
    except COMPOSITION_ERRORS as error:
        key, message = explain(error)
        return [Problem(key, message)] if message.startswith("is set already") or key in clashing else []
    return []


class _Refused(HydraException):
    """An override that Hydra trips over, instead of refusing it."""

    def __init__(self, word: str):
        super().__init__("cannot be set; there is no such group of options")
        self.full_key = word


def _compose(config_name: str, words: Sequence[str]) -> DictConfig:
    """Return the composed tree with Hydra's own part; raise one of COMPOSITION_ERRORS."""
    try:
        return compose(config_name, list(words), return_hydra_config=True)
    except COMPOSITION_ERRORS:
        raise
    except Exception as error:  # an AssertionError of data_dir.x=1, say, where data_dir is null
        if len(words) == 1:
            raise _Refused(words[0].lstrip("+")) from error
        for word in words:
            _compose(config_name, [word])
        raise


def group_problem(override: Override) -> Problem | None:
    """Return what is wrong with the choice of a group, or with an override that qexp cannot honor."""
    group, line, value = override.key_or_group, str(override.input_line), override.value()
    if override.is_delete():
        return Problem(line, "nothing can be deleted; set another value")
    if not group:
        return Problem(line, "expected key=value")
    if group.split("/")[0] == TABLES:
        return Problem(line, "is a table; qexp table shows and runs it")
    if group == "hydra.job.chdir" and value:
        return Problem(line, "qexp keeps the working directory; runs_dir= says where runs go")
    if group not in GROUPS:
        leads_away = isinstance(value, str) and (value.startswith("/") or ".." in value.split("/"))
        return Problem(line, "leads out of the folder of choices") if leads_away and choices(group) else None
    known = choices(group)
    if isinstance(value, str) and value in known:
        return None
    hint = schema.suggest(str(value), known)
    shown = "null" if value is None else value
    return Problem(f"{group}={shown}", f"no such {group}{hint}; there are {', '.join(known)}")


def forced(override: Override) -> str:
    """Return the override as one that Hydra accepts for any key, so that our own check sees it."""
    line, key = str(override.input_line), override.key_or_group
    return line if choices(key) or HYDRAS.match(key) else "++" + line.lstrip("+")


def _without_echoes(problems: Sequence[Problem], tree: DictConfig) -> list[Problem]:
    """Drop problems of keys that only refer to another key with a problem: weight_bits is ${bits}."""
    bad = {problem.key for problem in problems}

    def refers_to_bad(key: str) -> bool:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(tree, parent) if parent else tree
        if not isinstance(node, DictConfig) or last not in node or not OmegaConf.is_interpolation(node, last):
            return False
        written = OmegaConf.to_container(node, resolve=False)[last]  # type: ignore[index,call-overload]
        return str(written).strip("${}") in bad

    return [problem for problem in problems if not refers_to_bad(problem.key)]


def explain(error: Exception) -> tuple[str, str]:
    """Return (what, why) in one line each, without Hydra's advice to add unknown keys by `+`."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}", f"no valid YAML: {error.problem}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("object_type", "full_key", "reference_type"))]
    first = lines[0] if lines else type(error).__name__
    if found := re.match("Could not override '(.+)'", first):
        return found[1], "no such option"  # of Hydra's: all others are forced into the tree
    if found := re.match("Could not append to config. An item is already at '(.+)'", first):
        return found[1], "is set already; leave out the +"
    if found := re.match(r"Error merging override \+*(.+)", first):
        return found[1], lines[1] if len(lines) > 1 else "cannot be set"
    return str(getattr(error, "full_key", None) or "configuration"), first.partition(" To append")[0]
