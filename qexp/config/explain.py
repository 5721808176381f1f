"""What Hydra, OmegaConf and YAML complain of, in one line each."""

import re
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from qexp.config.schema import Problem

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, RecursionError)


class Refused(HydraException):
    """An override that Hydra trips over, instead of refusing it."""

    def __init__(self, word: str):
        super().__init__("cannot be set; there is no such group of options")
        self.full_key = word


def without_echoes(problems: Sequence[Problem], tree: DictConfig) -> list[Problem]:
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
