"""What a training was like, as lines of JSON.

metrics.jsonl: one line per epoch, and one more where batch norm was estimated again after the last.
layers.jsonl: what the quantizers of every layer report, before training (epoch 0) and after every epoch.
"""

import json
from collections.abc import Callable, Mapping
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


class LayerLines(Callback):
    """Appends what the layers report to a file.

    Args:
        path: of the file.
        at: bytes of it to keep.
        report: returns `layer/side/what` -> value; it is asked once in an epoch.
        is_begun: whether training has begun, so that what they report now is not what they began with.

    Attributes:
        values: the latest report.
    """

    def __init__(self, path: Path, at: int = 0, *, report: Callable[[], Mapping[str, float]], is_begun: bool):
        self.journal, self.report = Journal(path, at), report
        self.values: Mapping[str, float] = {}
        if not is_begun:
            self._write(0)

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        self._write(record.epoch)

    def _write(self, epoch: int) -> None:
        self.values = {name: float(f"{value:.7g}") for name, value in self.report().items()}  # as float32 knows them
        self.journal.write((json.dumps({"epoch": epoch, "values": self.values}) + "\n").encode())

    def position(self) -> Mapping[str, int]:
        return self.journal.position()

    def close(self) -> None:
        self.journal.close()
