"""Many jobs that differ in values: Hydra composes each choice of groups once, and the values are set in its tree.

The 28 rows of a table take one second this way, and four with a composition per row.
"""

import copy
from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from qexp.config.compose import COMPOSITION_ERRORS, GROUPS, Job, compose_job, parse_overrides
from qexp.config.config import parse_config
from qexp.config.schema import Invalid


class Variants:
    """Composes jobs inside a `composing()` block, and remembers them and the trees that they share."""

    def __init__(self) -> None:
        self._trees: dict[tuple[str, ...], DictConfig] = {}
        self._jobs: dict[tuple[str, ...], Job] = {}

    def job(self, words: Sequence[str]) -> Job:
        """Return what `compose_job(words)` returns, also where a word is no override."""
        key = tuple(words)
        if key not in self._jobs:
            self._jobs[key] = self._composed(key)
        return self._jobs[key]

    def _composed(self, words: tuple[str, ...]) -> Job:
        overrides, problems = parse_overrides(words)
        if problems:
            return Job(words, {}, None, tuple(problems))
        try:
            if all(map(_is_plain, overrides)):
                raw = self._raw(overrides)
                return Job(words, raw, parse_config(raw), ())
        except (Invalid, *COMPOSITION_ERRORS):
            pass
        return compose_job(words)  # knows the odd cases, and says what is wrong

    def _raw(self, overrides: Sequence[Override]) -> Any:
        groups = tuple(sorted(str(one.input_line) for one in overrides if one.key_or_group in GROUPS))
        if groups not in self._trees:
            self._trees[groups] = compose("train", overrides=list(groups))
        tree = copy.deepcopy(self._trees[groups])
        for one in overrides:
            if one.key_or_group not in GROUPS:
                OmegaConf.update(tree, one.key_or_group, one.value(), merge=True, force_add=True)
        return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)


def _is_plain(override: Override) -> bool:
    """Whether this chooses one of qexp's groups, or gives one value to one key."""
    key, line = override.key_or_group, str(override.input_line)
    if override.is_delete() or override.is_sweep_override() or override.package is not None:
        return False
    if key in GROUPS:
        return line.startswith(f"{key}=")
    return "/" not in key and not key.startswith("hydra")
