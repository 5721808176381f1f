"""Compose and check every job of a command line before anything is created.

Hydra stops at its first error and accepts unknown keys behind `+`. Here every override is forced into the tree, so that
one pass finds all that is wrong. Hydra composes each choice of groups once; values are then set in a copy of its tree,
so that the 28 rows of a table take one second and not four.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from qexp.config.config import Config, parse_config
from qexp.config.explain import COMPOSITION_ERRORS, Refused, explain, without_echoes
from qexp.config.hydra_files import FolderOfTheUser, checking_files
from qexp.config.hydra_part import hydra_problems
from qexp.config.overrides import (
    GROUPS,
    HYDRAS,
    SYNTAX_ERRORS,
    combinations,
    is_plain,
    override_problem,
    parse_word,
)
from qexp.config.places import check_config_dir, conf_dir
from qexp.config.references import plain_tree, reference_problems
from qexp.config.schema import Invalid, Problem


@dataclass(frozen=True)
class Job:
    """One job of a command: its overrides, and its configuration or what is wrong with it.

    Attributes:
        overrides: its words.
        tree: the resolved tree of its options, as far as it could be composed.
        config: of the run, None where there are problems.
        problems: all of them.
        hydra: Hydra's own part of the tree, for what carries out the job; jobs may share it. None with problems.
    """

    overrides: tuple[str, ...]
    tree: Mapping[str, Any]
    config: Config | None
    problems: tuple[Problem, ...]
    hydra: DictConfig | None = field(default=None, compare=False, repr=False)

    @property
    def checked(self) -> Config:
        """The configuration of a job without problems."""
        assert self.config is not None, "a job with problems is not run"
        return self.config


@contextmanager
def composing(config_dir: str | None = None, config_name: str = "train") -> Iterator["Composer"]:
    """Yield what composes jobs of qexp's configuration, and the user's own folder after it.

    Args:
        config_dir: the user's folder.
        config_name: the primary file.

    Raises:
        UsageError: there is no such folder.
    """
    check_config_dir(config_dir or None)
    Plugins.instance().register(FolderOfTheUser)
    FolderOfTheUser.folder = Path(config_dir) if config_dir else None
    instance, before = GlobalHydra.instance(), GlobalHydra.instance().hydra
    instance.clear()
    try:
        with (
            initialize_config_dir(str(conf_dir()), job_name="qexp", version_base="1.3"),
            checking_files(),
            warnings.catch_warnings(action="ignore"),  # ${oc.deprecated:...}; the run itself shows them
        ):
            yield Composer(config_name)
    finally:
        instance.hydra, FolderOfTheUser.folder = before, None


class Composer:
    """Composes jobs inside a `composing()` block, and remembers them and the trees that they share."""

    def __init__(self, config_name: str):
        self.config_name = config_name
        self.loader = GlobalHydra.instance().config_loader()
        self._shared: dict[tuple[str, ...], tuple[DictConfig, DictConfig, bool]] = {}
        self._jobs: dict[tuple[str, ...], Job] = {}

    def choices(self, group: str) -> list[str]:
        """Return the names that a group offers."""
        return list(self.loader.get_group_options(group, ObjectType.CONFIG))

    def parse(self, words: Sequence[str]) -> tuple[list[Override], list[Problem]]:
        """Return the overrides among `words`, and a problem for each word that is none."""
        parser = OverridesParser.create(self.loader)
        overrides, problems = [], []
        for word in words:
            try:
                overrides += parse_word(parser, word)
            except SYNTAX_ERRORS as error:
                guess = next((group for group in GROUPS if word in self.choices(group)), None)
                hint = f"did you mean {guess}={word}?" if guess else None
                why = f"expected key=value ({hint})" if hint else _syntax(error)
                problems.append(Problem(word, why))
        return overrides, problems

    def problem_of(self, override: Override) -> Problem | None:
        """Return what is wrong with an override that chooses from a group, or that qexp cannot honor."""
        return override_problem(override, self.choices(override.key_or_group))

    def expand(self, overrides: Sequence[Override], *, multirun: bool) -> tuple[list[list[str]], list[Problem]]:
        """Return the words of every job, and what is wrong with the sweep.

        A sweeper other than Hydra's basic one chooses its jobs while it runs; then there is one job, without sweeps.
        """
        single = [override for override in overrides if not override.is_sweep_override()]
        swept = [override for override in overrides if override.is_sweep_override()]
        fixed = [str(override.input_line) for override in single]
        if not multirun:
            problems = [Problem(str(one.input_line), "names several values; to run them all, add -m") for one in swept]
            return [fixed], problems + self._as_written(single)
        of_hydra = [one for one in swept if HYDRAS.match(one.key_or_group)]
        if of_hydra:
            why = "Hydra's own options are the same for all jobs of a sweep"
            return [fixed], [Problem(str(one.input_line), why) for one in of_hydra]
        try:
            tree = self._compose([self._forced(one) for one in single if self.problem_of(one) is None])
            if hydra_problems(tree.hydra, fixed) or not is_basic_sweeper(tree.hydra):
                return [fixed], []
        except COMPOSITION_ERRORS:
            return [fixed], []  # the job says the same
        parser = OverridesParser.create(self.loader)
        try:
            params = tree.hydra.sweeper.params or {}
            if orders := [key for key in params if HYDRAS.match(str(key))]:
                why = "Hydra's own options are the same for all jobs of a sweep"
                return [fixed], [Problem(f"hydra.sweeper.params.{key}", why) for key in orders]
            lists = combinations([*parser.parse_overrides([f"{k}={v}" for k, v in params.items()]), *overrides])
            return lists, self._as_written(parser.parse_overrides(lists[0]))
        except SYNTAX_ERRORS as error:
            return [fixed], [Problem("-m", explain(error)[1])]

    def job(self, words: Sequence[str]) -> Job:
        """Return the job of some words: its configuration, or everything that is wrong with it."""
        key = tuple(words)
        if key not in self._jobs:
            self._jobs[key] = self._job(key)
        return self._jobs[key]

    def _job(self, words: tuple[str, ...]) -> Job:
        overrides, problems = self.parse(words)
        if problems:
            return Job(words, {}, None, tuple(problems))
        if all(map(is_plain, overrides)):
            try:
                composed, hydra, is_clear = self._from_shared_tree(overrides)
                if is_clear and not reference_problems(composed):
                    tree = plain_tree(composed)
                    return Job(words, tree, parse_config(tree), (), hydra)
            except Exception:  # a ValueError of keep_float.a=1, say, where keep_float is a list
                pass  # the composition below knows the odd cases, and says what is wrong
        return self._composed_alone(words, overrides)

    def _from_shared_tree(self, overrides: Sequence[Override]) -> tuple[DictConfig, DictConfig, bool]:
        """Return the tree of plain overrides, Hydra's part, and whether nothing is wrong with that.

        The values are set in a copy of qexp's part of what their groups compose; Hydra's part is the same for all.
        """
        groups = _groups(overrides)
        if groups not in self._shared:
            tree = self._compose(groups)
            own = OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])
            self._shared[groups] = own, tree.hydra, not hydra_problems(tree.hydra, groups)
        own, hydra, is_clear = self._shared[groups]
        own = copy.deepcopy(own)
        for one in overrides:
            if one.key_or_group not in GROUPS:
                OmegaConf.update(own, one.key_or_group, one.value(), merge=True, force_add=True)
        return own, hydra, is_clear

    def _composed_alone(self, words: tuple[str, ...], overrides: Sequence[Override]) -> Job:
        """Return a job that Hydra composes, every override forced into its tree."""
        problems, tree = [found for one in overrides if (found := self.problem_of(one))], {}
        try:
            composed = self._compose([self._forced(one) for one in overrides if self.problem_of(one) is None])
            problems += hydra_problems(composed.hydra, words)
            if unclear := reference_problems(composed):
                return Job(words, {}, None, (*problems, *unclear))
            tree = plain_tree(composed)
            config = parse_config(tree)
        except Invalid as error:
            return Job(words, tree, None, (*problems, *without_echoes(error.problems, composed)))
        except COMPOSITION_ERRORS as error:
            return Job(words, tree, None, (*problems, Problem(*explain(error))))
        return Job(words, tree, None, tuple(problems)) if problems else Job(words, tree, config, (), composed.hydra)

    def _forced(self, override: Override) -> str:
        """Return the override as one that Hydra accepts for any key, so that our own check sees it."""
        line, key = str(override.input_line), override.key_or_group
        return line if self.choices(key) or HYDRAS.match(key) else "++" + line.lstrip("+")

    def _as_written(self, overrides: Sequence[Override]) -> list[Problem]:
        """Return what Hydra refuses though it takes it when forced: +seed=1, and seed.x=1 before seed=1."""
        keys = [one.key_or_group for one in overrides if not self.choices(one.key_or_group)]
        clashing = [one for one in keys if any(one.startswith(f"{other}.") for other in keys)]
        if not clashing and not any(override.is_add() for override in overrides):
            return []
        try:
            self._compose([str(override.input_line) for override in overrides])
        except COMPOSITION_ERRORS as error:
            key, message = explain(error)
            return [Problem(key, message)] if message.startswith("is set already") or key in clashing else []
        return []

    def _compose(self, words: Sequence[str]) -> DictConfig:
        """Return the composed tree with Hydra's own part; raise one of COMPOSITION_ERRORS."""
        try:
            return compose(self.config_name, list(words), return_hydra_config=True)
        except COMPOSITION_ERRORS:
            raise
        except Exception as error:  # an AssertionError of data_dir.x=1, say, where data_dir is null
            if len(words) == 1:
                raise Refused(words[0].lstrip("+")) from error
            for word in words:
                self._compose([word])
            raise


def _groups(overrides: Sequence[Override]) -> tuple[str, ...]:
    """Return the words that choose groups, in their order: of two for one group the later one counts."""
    return tuple(str(one.input_line) for one in overrides if one.key_or_group in GROUPS)


def is_basic_sweeper(hydra: DictConfig) -> bool:
    """Whether the jobs of a sweep are all combinations of its values, known before it starts."""
    return str(hydra.sweeper._target_).endswith(".BasicSweeper")


def is_basic_launcher(hydra: DictConfig) -> bool:
    """Whether the jobs of a sweep run one after another in this process."""
    return str(hydra.launcher._target_).endswith(".BasicLauncher")


def _syntax(error: Exception) -> str:
    """Return why a word is no override."""
    own = str(error) if type(error) is ValueError and str(error).startswith("holds ") else ""
    return own or "expected key=value; quote values that hold special characters"
