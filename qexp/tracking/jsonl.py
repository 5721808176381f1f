"""metrics.jsonl: one line of JSON per epoch, and one more where batch norm was estimated again after the last."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import nn

from qexp.tracking.journal import Journal
from qexp.utils.callback import Callback, EpochRecord


class JsonLines(Callback):
    """Appends every epoch's record to a file.

    Args:
        path: of the file.
        at: bytes of it to keep.
    """

    def __init__(self, path: Path, at: int = 0):
        self.journal = Journal(path, at)

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        self._write(record)

    def after_norm(self, record: EpochRecord) -> None:
        self._write(record)

    def _write(self, record: EpochRecord) -> None:
        self.journal.write((json.dumps(asdict(record) | {"gap": record.gap}) + "\n").encode())

    def position(self) -> Mapping[str, int]:
        return self.journal.position()

    def close(self) -> None:
        self.journal.close()
