"""Means over runs: one row for those that have the same values under some names."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from qexp.runs.measured_bits import mean_of
from qexp.runs.query import Entry, number
from qexp.runs.run_values import CONFIGURED_BITS, ListedRun, as_data, as_texts, what_varies
from qexp.utils.text import few, plural

MEASURED = ("mean", "std", "n")


@dataclass(frozen=True)
class Group:
    """Finished runs that have the same values under the names of a grouping.

    Attributes:
        values: under these names, for programs.
        cells: the same for people.
        top1: hard top-1 of each run after its last epoch, in percent.
        differ: in what its runs differ; in more than the seed, they are mixed.
        runs: they.
    """

    values: tuple[object, ...]
    cells: tuple[str, ...]
    top1: tuple[float, ...]
    differ: tuple[str, ...] = ()
    runs: tuple[ListedRun, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Whether the mean is over runs that differ in more than the seed."""
        return bool(set(self.differ) - {"seed"})

    @property
    def mean(self) -> float:
        """Of hard top-1."""
        return statistics.fmean(self.top1)

    @property
    def std(self) -> float | None:
        """The sample standard deviation, over n - 1; None for a single run."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else None

    @property
    def measured(self) -> dict[str, float | int | None]:
        """Name -> value, for MEASURED."""
        return {"mean": self.mean, "std": self.std, "n": len(self.top1)}


def without_copies(runs: Sequence[Entry]) -> list[Entry]:
    """Return each run once: of copies, which have the same hash, one with a result and not behind a link, if any is."""

    def rank(one: Entry) -> tuple[bool, bool]:
        return not one.result, os.path.realpath(one.path) != os.path.abspath(one.path)

    found: dict[str, Entry] = {}
    for one in runs:
        known = found.setdefault(one.key, one)
        if known is not one and rank(one) < rank(known):
            found[one.key] = one
    return list(found.values())


def grouped(runs: Sequence[ListedRun], names: Sequence[str]) -> tuple[list[Group], list[str]]:
    """Return groups of runs in the order of their values, and what has to be said of them."""
    found = [(run, top1) for run in runs if (top1 := number(run.entry.result, "top1_hard")) is not None]
    kept = {one.path for one in without_copies([run.entry for run, _ in found])}
    counted = [(run, top1) for run, top1 in found if run.entry.path in kept]
    members: dict[tuple[str, ...], list[tuple[ListedRun, float]]] = {}
    configured = {"bits": CONFIGURED_BITS}  # runs that learn their widths belong together
    columns = [as_texts([run.value(configured.get(name, name)) for run, _ in counted]) for name in names]
    for one, cells in zip(counted, zip(*columns, strict=True), strict=True):
        members.setdefault(cells, []).append(one)
    groups = []
    for cells, own in members.items():
        if "bits" in names and (bits := mean_of([run.entry.bits for run, _ in own if run.entry.bits])):
            cells = tuple(bits.label if name == "bits" else cell for name, cell in zip(names, cells, strict=True))
        values = tuple(
            cell if name == "bits" else as_data(own[0][0].value(name)) for name, cell in zip(names, cells, strict=True)
        )
        varied = what_varies([run for run, _ in own])
        differ = (*varied.names, *varied.options)
        groups.append(Group(values, cells, tuple(top1 for _, top1 in own), differ, tuple(run for run, _ in own)))
    for name in reversed(names):
        groups = in_order_of(groups, names, name, falling=False)
    notes = [f"hard top-1 of the last epoch, in percent, over {plural(len(counted), 'run')}"]
    if missing := len(runs) - len(found):
        notes[0] += f"; without a result, and left out: {missing:,}"
    if copies := len(found) - len(counted):
        notes.append(f"{plural(copies, 'run')} of the store {'is a copy' if copies == 1 else 'are copies'} of another")
    return groups, notes


def mixture_notes(groups: Sequence[Group], *, marked: bool) -> list[str]:
    """Return in what runs of the same group differ, in lines.

    Args:
        groups: of a table.
        marked: whether the table marks its mixed groups.
    """
    found: dict[str, None] = {}
    for group in sorted(groups, key=lambda group: not group.is_mixed):
        found |= dict.fromkeys(group.differ)
    if not found:
        return []
    mark = "* runs of this row" if marked and any(group.is_mixed for group in groups) else "runs of one row"
    return [f"{mark} differ in {few(found, 6)}"]


def in_order_of(groups: Sequence[Group], names: Sequence[str], name: str, *, falling: bool) -> list[Group]:
    """Return groups by a name of the grouping, or by one of MEASURED; those that have nothing at the end."""

    def value(group: Group) -> object:
        return group.measured[name] if name in MEASURED else group.values[list(names).index(name)]

    def order(group: Group) -> tuple[bool, float, str]:
        found = value(group)
        return not isinstance(found, int | float), found if isinstance(found, int | float) else 0.0, str(found)

    having = sorted((group for group in groups if value(group) is not None), key=order, reverse=falling)
    return [*having, *(group for group in groups if value(group) is None)]
