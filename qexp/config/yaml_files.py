"""YAML files, read as data of a size and depth that can be meant: an alias counts as all that it stands for."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from qexp.config.references import MOST_VALUES, is_more, plain_tree, reference_problems
from qexp.utils.errors import UsageError
from qexp.utils.files import read_regular
from qexp.utils.text import one_line

MOST_BYTES, DEEPEST = 2**20, 50
LOADER = yaml.SafeLoader  # what OmegaConf reads with: libyaml takes other texts for YAML


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the tree in a YAML file, its references resolved.

    Raises:
        UsageError: more than can be meant.
        OSError, ValueError, YAMLError, OmegaConfBaseException: it cannot be read.
    """
    tree = OmegaConf.load(_Named(read_text(path), path))
    if not isinstance(tree, DictConfig):
        raise ValueError("holds no keys with values")
    if problems := reference_problems(tree):
        raise UsageError(f"{path}: {problems[0]}")
    return plain_tree(tree)


def parse_text(text: str) -> Any:
    """Return what a YAML text holds, as plain data; raises whatever YAML and OmegaConf raise."""
    return OmegaConf.to_container(OmegaConf.create(text))


def to_yaml(raw: Mapping[str, Any]) -> str:
    """Return the tree as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(raw)))


def read_text(path: Path) -> str:
    """Return the text of a YAML file that is small enough.

    Raises:
        UsageError: more than can be meant.
        OSError, ValueError, YAMLError: it cannot be read.
    """
    text = read_regular(path, MOST_BYTES).decode()
    if reason := excess(_Named(text, path)):
        raise UsageError(f"{path}: {reason}")
    return text


class Unsafe(HydraException):
    """A file of configuration that Hydra shall not read."""

    def __init__(self, path: Path, reason: str):
        super().__init__(reason)
        self.full_key = str(path)


def check_file(path: Path, root: Path) -> None:
    """Check a file of configuration that others may have made, before Hydra reads it.

    Raises:
        Unsafe: it lies outside of `root`, is more than can be meant, or an order to Hydra.
        ValueError, YAMLError: it is no YAML.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise Unsafe(path, "leads out of the folder of --config-dir")
    try:
        reason = order(read_text(path))
    except UsageError as error:
        raise Unsafe(path, str(error).partition(": ")[2]) from error
    except OSError as error:
        raise Unsafe(path, f"cannot be read ({error.strerror})") from error
    if reason:
        raise Unsafe(path, reason)


def order(text: str) -> str | None:
    """Return what a YAML text would make Hydra do while it composes, before a tree can be checked; None for nothing."""
    for event in yaml.parse(text, Loader=LOADER):
        value = getattr(event, "value", "")
        if value == "searchpath":  # pkg://NAME imports a package
            return "hydra.searchpath is not for files; --config-dir adds a folder"
        if is_more(value):
            return f"{one_line(value, 80)}: may refer to other options, and to nothing else"
    return None


class _Named(io.StringIO):
    """Text that YAML's errors name the file of."""

    def __init__(self, text: str, path: Path):
        super().__init__(text)
        self.name = str(path)


def excess(text: str | io.StringIO) -> str | None:
    """Return why a YAML text is more than can be meant, None where it is not."""
    sizes: dict[str, int] = {}  # anchor -> values
    levels: list[tuple[str | None, int]] = [(None, 0)]  # of each collection around: its anchor, its values so far
    for event in yaml.parse(text, Loader=LOADER):
        size, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            levels.append((anchor, 1))
            if len(levels) > DEEPEST:
                return f"is nested deeper than {DEEPEST} levels"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = levels.pop()
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in sizes:
                return f"*{one_line(str(anchor))} stands for nothing, or for what it is a part of"
            size, anchor = sizes[anchor], None
        if anchor is not None and size:
            sizes[anchor] = size
        levels[-1] = (levels[-1][0], levels[-1][1] + size)
        if levels[-1][1] > MOST_VALUES:
            return f"holds more than {MOST_VALUES:,} values, aliases counted as what they stand for"
    return None
