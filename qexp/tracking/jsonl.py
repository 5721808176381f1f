"""metrics.jsonl: one line of JSON per epoch."""

import json
from dataclasses import asdict
from pathlib import Path

from torch import nn

from qexp.observer import EpochRecord, Observer


class JsonLines(Observer):
    """Appends every epoch's record to `path`."""

    def __init__(self, path: Path):
        self.path = path

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(record) | {"gap": record.gap}) + "\n")
