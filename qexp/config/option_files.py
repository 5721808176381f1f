"""The YAML files in conf/ as people read them: every option, its value as it is written, the comment beside it.

Without Hydra and OmegaConf, whose import takes longer than a completion may.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

NOT_OPTIONS = ("defaults", "hydra", "_target_", "name")


@dataclass(frozen=True)
class Option:
    """One line of a YAML file: the dotted key, its value as it is written, and the comment beside it."""

    key: str
    value: str
    comment: str


def read_options(path: Path, *, whole: bool = False) -> list[Option]:
    """Return the options in a YAML file, in their order.

    Args:
        path: of the file.
        whole: whether what is written between braces is taken apart as well; else it counts as one option.
    """
    text = path.read_text()
    lines, root = text.splitlines(), yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)

    def walk(node: yaml.MappingNode, prefix: str) -> Iterator[Option]:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in NOT_OPTIONS:
                continue
            if isinstance(value, yaml.MappingNode) and (whole or not value.flow_style):
                yield Option(name, "", comment_after(lines[key.end_mark.line], key.end_mark.column))
                yield from walk(value, f"{name}.")
            else:
                written = text[value.start_mark.index : value.end_mark.index]
                yield Option(name, written, comment_after(lines[value.end_mark.line], value.end_mark.column))

    return list(walk(root, ""))


def comment_after(line: str, column: int) -> str:
    """Return the comment behind a column of a line, without its sign."""
    return line[column:].partition("# ")[2].strip()
