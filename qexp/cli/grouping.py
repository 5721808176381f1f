"""Means over runs as a table: for people, and for programs."""

from collections.abc import Sequence

from qexp.cli.listing import Column, Listing
from qexp.runs.groups import Group, mixture_notes


def as_listing(groups: Sequence[Group], names: Sequence[str], notes: Sequence[str]) -> Listing:
    """Return groups as a table for people; a mixed one has a mark at its n."""
    columns = [Column(name, [group.cells[at] for group in groups]) for at, name in enumerate(names)]
    columns.append(Column("mean", [f"{group.mean:.2f}" for group in groups], True))
    columns.append(Column("std", ["-" if group.std is None else f"{group.std:.2f}" for group in groups], True))
    columns.append(Column("n", [f"{len(group.top1)}{'*' * group.is_mixed}" for group in groups], True))
    return Listing(columns, [], [*notes, *mixture_notes(groups, marked=True)])


def group_rows(groups: Sequence[Group]) -> list[list[object]]:
    """Return groups for programs."""
    return [[*group.values, *group.measured.values()] for group in groups]
