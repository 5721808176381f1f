"""The papers' tables: published rows, joined with runs, and how they look."""

from qexp.tables.format import around, as_csv, as_markdown, cells, missing_runs, time_needed
from qexp.tables.join import JoinedTable, TableRequest, join
from qexp.tables.published import OWN, find_table, protocol_named, protocols, seeds_named, table_names

__all__ = [
    "OWN",
    "JoinedTable",
    "TableRequest",
    "around",
    "as_csv",
    "as_markdown",
    "cells",
    "find_table",
    "join",
    "missing_runs",
    "protocol_named",
    "protocols",
    "seeds_named",
    "table_names",
    "time_needed",
]
