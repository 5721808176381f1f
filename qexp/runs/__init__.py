"""The run store: directories and states (store.py), locks (locks.py), finding and removing runs (query.py)."""

from qexp.runs.locks import RunLocked
from qexp.runs.store import (
    DEPTH,
    State,
    claim,
    clear,
    folder_names,
    is_stripped,
    model_width,
    read_result,
    read_summary,
    run_directory,
    state_of,
    strangers,
    write_json,
    write_status,
)
from qexp.utils.files import read_json

__all__ = [
    "DEPTH",
    "RunLocked",
    "State",
    "claim",
    "clear",
    "folder_names",
    "is_stripped",
    "model_width",
    "read_json",
    "read_result",
    "read_summary",
    "run_directory",
    "state_of",
    "strangers",
    "write_json",
    "write_status",
]
