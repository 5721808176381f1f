"""The run store: directories, states and locks (store.py); finding, comparing and removing runs (query.py)."""

from qexp.runs.store import (
    RunLocked,
    State,
    claim,
    clear,
    is_stripped,
    model_width,
    read_json,
    read_summary,
    run_directory,
    state_of,
    write_json,
    write_status,
)

__all__ = [
    "RunLocked",
    "State",
    "claim",
    "clear",
    "is_stripped",
    "model_width",
    "read_json",
    "read_summary",
    "run_directory",
    "state_of",
    "write_json",
    "write_status",
]
