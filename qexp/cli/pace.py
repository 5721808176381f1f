"""How far a run is and how long the rest takes, as its metrics.jsonl tells: for other processes than its own."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qexp.runs.query import number
from qexp.utils.files import read_tail

_LAST = 5  # epochs that a pace is the mean of


@dataclass(frozen=True)
class StoredPace:
    """What the log of a run tells; None where it tells nothing.

    Attributes:
        epoch: how many are trained.
        epochs: how many there are to be.
        top1: hard, of the last evaluation, in percent.
        seconds_left: at the pace of the last epochs.
    """

    epoch: int | None = None
    epochs: int | None = None
    top1: float | None = None
    seconds_left: float | None = None


def stored_pace(path: Path) -> StoredPace:
    """Return what the log of the run in `path` tells, as far as it can be read."""
    records: list[dict[str, Any]] = []
    since = 0.0
    with suppress(OSError):
        log = path / "metrics.jsonl"
        since = time.time() - log.stat().st_mtime  # of another machine, maybe: its clock may be another
        for line in read_tail(log).splitlines():
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                records += [record] if isinstance(record, dict) and number(record, "epoch") is not None else []
    if not records:
        return StoredPace()
    epoch, epochs = int(records[-1]["epoch"]), number(records[-1], "epochs")
    evaluated = [own for record in records if (own := _top1(record)) is not None]
    return StoredPace(
        epoch,
        None if epochs is None else int(epochs),
        evaluated[-1] if evaluated else None,
        _seconds_left(records, epoch, epochs, since),
    )


def _top1(record: dict[str, Any]) -> float | None:
    hard = record.get("hard")
    return number(hard, "top1") if isinstance(hard, dict) else None


def _seconds_left(records: list[dict[str, Any]], epoch: int, epochs: float | None, since: float) -> float | None:
    """Return the mean of the last epochs for each that is left, less what has passed since the last one ended."""
    by_epoch = {record["epoch"]: number(record, "time_seconds") for record in records}  # the last may have two
    seconds = [own for own in list(by_epoch.values())[-_LAST:] if own is not None]
    if not seconds or epochs is None or epochs <= epoch:
        return None
    mean = sum(seconds) / len(seconds)
    return mean * (epochs - epoch) - min(max(since, 0.0), mean)
