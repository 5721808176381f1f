"""What a run wrote of each of its epochs: the lines of metrics.jsonl, and of other files of that kind."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qexp.utils.files import read_regular

MOST_BYTES = 2**26  # of a file: a hundred thousand epochs

LAYERS = "layers.jsonl"  # what the layers reported

EpochRecords = dict[int, Mapping[str, Any]]


def epoch_records(run: Path, name: str = "metrics.jsonl") -> EpochRecords:
    """Return epoch -> its record, as far as a file of a run directory can be read; of two of one epoch the last."""
    found: EpochRecords = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in read_regular(run / name, MOST_BYTES).decode().splitlines():
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(epoch := record.get("epoch"), int):
                    found[epoch] = record
    return found


def layer_reports(run: Path) -> EpochRecords:
    """Return epoch -> what the layers of a run reported, `layer/side/what` -> value, as far as it can be read."""
    records = epoch_records(run, LAYERS)
    return {epoch: own for epoch, record in records.items() if isinstance(own := record.get("values"), Mapping)}
