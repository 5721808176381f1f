"""The papers' tables, as data: conf/paper/<paper>/<table>.yaml."""

import fnmatch
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from qexp.config import schema
from qexp.config.explain import COMPOSITION_ERRORS, explain
from qexp.config.places import conf_dir
from qexp.config.yaml_files import load_yaml
from qexp.utils.errors import UsageError
from qexp.utils.text import UNFIT, few, suggest
from qexp.utils.types import Count, NonNegative, NonNegativeInt, Range

OWN = "paper"  # the protocol under which a number is held against the paper's

Percent = Annotated[float, Range(low=0, high=100)]
Text = str | int


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A published number, in percent; None is unknown. `std` over `runs` runs, which `top1` is the mean of."""

    top1: Percent | None = None
    top5: Percent | None = None
    std: NonNegative | None = None
    runs: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: `overrides` are the words of `qexp train`, None for a method that qexp does not have.

    `note` and `source` say what holds for this row alone.
    """

    id: str
    label: str
    overrides: str | None
    reported: Reported
    note: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the paper obtained its numbers; what is not known says `unknown`."""

    epochs: Text
    batch: Text
    optimizer: Text
    start: Text
    float_layers: Text
    best_or_last: Text
    soft_or_hard: Text
    runs: Text


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. `overrides` come before those of each row; `differences` tell where qexp's runs are not the paper's."""

    title: str
    citation: str
    source: str
    protocol: Protocol
    differences: tuple[str, ...]
    overrides: str
    seeds: tuple[NonNegativeInt, ...]
    rows: tuple[Row, ...]


def table_names(folder: Path) -> list[str]:
    """Return the names of all tables in a folder, such as `dqa/1`; what no terminal can show is no name."""
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not UNFIT.search(name))


def find_table(folders: Sequence[Path], name: str) -> Path:
    """Return the folder that holds a table.

    Raises:
        UsageError: none does, or several do.
    """
    holding = [folder for folder in folders if name in table_names(folder)]
    if not holding:
        raise _no_table(name, [known for folder in folders for known in table_names(folder)])
    if len(holding) > 1:
        raise UsageError(f"{holding[1] / name}.yaml: there is a table {name} in qexp already; give it another name")
    return holding[0]


def _no_table(name: str, known: Sequence[str]) -> UsageError:
    hint = suggest(name, known) or f"; there are {', '.join(known) or 'none'}"
    return UsageError(f"no table '{name}'{hint}")


def load_table(folder: Path, name: str) -> Table:
    """Read a table.

    Raises:
        UsageError: there is no such table, or its file is wrong.
    """
    if name not in (known := table_names(folder)):
        raise _no_table(name, known)
    path = folder / f"{name}.yaml"
    try:
        table = Table(**schema.parse(Table, load_yaml(path)))
        for words in (table.overrides, *(row.overrides or "" for row in table.rows)):
            shlex.split(words)
    except COMPOSITION_ERRORS as error:
        where, why = explain(error)
        raise UsageError(f"{where if where.startswith(str(path)) else path}: {why}") from error
    except ValueError as error:  # of the schema, or of the shell's quotes
        raise UsageError(f"{path}: {error}") from error
    doubles = [name for name, count in Counter(row.id for row in table.rows).items() if count > 1]
    if doubles:
        raise UsageError(f"{path}: several rows have the id {', '.join(doubles)}")
    return table


def select_rows(rows: Sequence[Row], patterns: str | None) -> list[Row]:
    """Return the rows that comma-separated ids or glob patterns name, in the table's order; all for None.

    Raises:
        UsageError: a pattern that fits no row.
    """
    if patterns is None:
        return list(rows)
    ids, chosen = [row.id for row in rows], set()
    for pattern in patterns.split(","):
        found = fnmatch.filter(ids, pattern)
        if not found:
            hint = suggest(pattern, ids) or f"; rows: {few(ids, 8)}"
            raise UsageError(f"--rows {pattern}: no such row{hint}")
        chosen.update(found)
    return [row for row in rows if row.id in chosen]


def own_words(table: Table, row: Row, protocol: str) -> tuple[str, ...]:
    """Return the words that give `qexp train` this row; a protocol other than the paper's wins over the table."""
    words = shlex.split(table.overrides) + shlex.split(row.overrides or "")
    if protocol == OWN:
        return tuple(words)
    replaced = protocol_values(protocol)
    return (*(word for word in words if word.partition("=")[0].lstrip("+") not in replaced), f"protocol={protocol}")


def protocols() -> list[str]:
    """Return the names of all protocols."""
    return sorted(path.stem for path in (conf_dir() / "protocol").glob("*.yaml"))


def protocol_values(name: str) -> dict[str, Any]:
    """Return `recipe.epochs` -> value for everything that a protocol sets."""
    tree = load_yaml(conf_dir() / "protocol" / f"{name}.yaml")
    groups = {group: values for group, values in tree.items() if isinstance(values, Mapping)}
    return {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}


def seeds_named(text: str | None) -> tuple[int, ...] | None:
    """Return the seeds that --seeds names, None without it; raise UsageError."""
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() for word in words) or len(set(map(int, words))) < len(words):
        raise UsageError(f"--seeds {text}: must be different whole numbers, such as 0,1,2")
    return tuple(map(int, words))


def protocol_named(name: str) -> str:
    """Return the protocol that --protocol names; raise UsageError where there is none of that name."""
    known = protocols()
    if name not in known:
        raise UsageError(f"--protocol {name}: no such protocol{suggest(name, known)}; there are {', '.join(known)}")
    return name
