"""Compose and check every job of a command line before anything is created.

Hydra stops at its first error and accepts unknown keys behind `+`. Here every override is forced into the tree, so
that one pass finds all that is wrong; Hydra's own run comes after, with the untouched command line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qexp import schema
from qexp.config import Config, conf_dir, parse_config
from qexp.schema import Invalid, Problem

GROUPS = ("dataset", "model", "quantizer", "recipe", "protocol")


@dataclass(frozen=True)
class Job:
    """One job of a command: its overrides, and its configuration or what is wrong with it."""

    overrides: tuple[str, ...]
    config: Config | None
    problems: tuple[Problem, ...]


@contextmanager
def composing() -> Iterator[None]:
    """Make `compose` see qexp's configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def parse_overrides(words: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Return the overrides among `words`, and a problem for each word that is none."""
    parser = OverridesParser.create()
    overrides, problems = [], []
    for word in words:
        try:
            overrides.append(parser.parse_override(word))
        except HydraException:
            guess = next((group for group in GROUPS if word in choices(group)), None)
            hint = f" (did you mean {guess}={word}?)" if guess else "; quote values that hold special characters"
            problems.append(Problem(word, f"expected key=value{hint}"))
    return overrides, problems


def folders(config_dir: str | None) -> list[Path]:
    """Return the folders that configuration is read from."""
    return [conf_dir(), *([Path(config_dir)] if config_dir else [])]


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Return the names that a group offers."""
    return sorted({path.stem for folder in folders(config_dir) for path in (folder / group).glob("*.yaml")})


def expand(
    overrides: Sequence[Override], *, multirun: bool, config_name: str = "train", config_dir: str | None = None
) -> tuple[list[list[str]], list[Problem]]:
    """Return the overrides of every job, and a problem for each sweep without -m.

    A sweeper other than Hydra's basic one chooses its jobs while it runs; then there is one job, without the sweeps.
    """
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    if not multirun:
        problems = [
            Problem(str(override.input_line), "names several values; to run them all, add -m")
            for override in overrides
            if override.is_sweep_override()
        ]
        return [fixed], problems
    about_hydra = [word for word in fixed if word.lstrip("+~").startswith("hydra")]
    sweeper = compose(config_name, [*_search(config_dir), *about_hydra], return_hydra_config=True).hydra.sweeper
    if not sweeper._target_.endswith("BasicSweeper"):
        return [fixed], []
    defaults = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in (sweeper.params or {}).items()])
    return BasicSweeper.split_arguments([*defaults, *overrides], None)[0], []


def _search(config_dir: str | None) -> list[str]:
    return [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"] if config_dir else []


def compose_job(words: Sequence[str], config_name: str = "train", config_dir: str | None = None) -> Job:
    """Compose one job and return its configuration, or everything that is wrong with it."""
    problems: list[Problem] = []
    forced: list[str] = []
    for override in OverridesParser.create().parse_overrides(list(words)):
        problem = _group_problem(override, config_dir)
        if problem:
            problems.append(problem)
        else:
            forced.append(_forced(override, config_dir))
    try:
        tree = compose(config_name, overrides=[*_search(config_dir), *forced])
        raw = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
        config = parse_config(raw)  # type: ignore[arg-type]
    except Invalid as error:
        return Job(tuple(words), None, (*problems, *_without_echoes(error.problems, tree)))
    except (HydraException, OmegaConfBaseException) as error:
        return Job(tuple(words), None, (*problems, Problem(*_explain(error))))
    return Job(tuple(words), None if problems else config, tuple(problems))


def _group_problem(override: Override, config_dir: str | None) -> Problem | None:
    """Return what is wrong with the choice of a group."""
    group = override.key_or_group
    if override.is_delete():
        return Problem(str(override.input_line), "nothing can be deleted; set another value")
    if group not in GROUPS:
        return None
    value, known = override.value(), choices(group, config_dir)
    if isinstance(value, str) and value in known:
        return None
    hint = schema.suggest(str(value), known)
    shown = "null" if value is None else value
    return Problem(f"{group}={shown}", f"no such {group}{hint}; there are {', '.join(known)}")


def _forced(override: Override, config_dir: str | None) -> str:
    """Return the override as one that Hydra accepts for any key, so that our own check sees it."""
    line, key = str(override.input_line), override.key_or_group
    is_group = any((folder / key).is_dir() for folder in folders(config_dir))
    return line if is_group or key.startswith("hydra") else "++" + line.lstrip("+")


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


def _explain(error: Exception) -> tuple[str, str]:
    """Return (what, why) in one line each, without Hydra's advice to add unknown keys by `+`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("object_type", "full_key", "reference_type"))]
    key = str(getattr(error, "full_key", None) or "configuration")
    return key, (lines[0].partition(" To append")[0] if lines else type(error).__name__)


def group_section(group: str, choice: str) -> Any:
    """Return the composed content of one choice of a group, for `qexp eval`."""
    return compose("train", overrides=[f"{group}={choice}"])[group]
