"""Runs written by hand, as training leaves them."""

import io
import json
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from qexp import runs

CONFIG = """\
dataset: {name: digits, train_size: null, _target_: qexp.data.datasets.Digits}
model:
  name: resnet18
  width: 0.25
quantizer: {name: QUANTIZER, default_bits: 2}
recipe: {epochs: 20, batch_size: 64, schedule: {name: cosine}}
protocol: short
weight_bits: 2
keep_float: [first, last]
init: fp
seed: SEED
device: auto
deterministic: false
"""
SUMMARY = {
    "key": "abcdefgh",
    "dataset": "digits",
    "model": "resnet18",
    "width": 0.25,
    "quantizer": "daq",
    "weight_bits": 2,
    "activation_bits": 2,
    "seed": 0,
    "init": "fp",
    "protocol": "short",
    "epochs": 20,
    "test_images": 1360,
    "top1_hard": 98.611,
    "top1_soft": 98.5,
    "quantizer_gap": -0.111,
    "best_top1_hard": 98.889,
    "best_epoch": 15,
    "float_top1": 98.056,
    "difference": 0.555,
    "unsettled": [],
    "time_images_per_second": 2834.4,
    "device": "cpu",
    "time_seconds": 11.5,
}


def make(name: str, state: str | None = "done", *, summary: Any = None, epochs: int = 0, message: str = "") -> Path:
    """A run directory below ./runs/digits/resnet18, `name` as in daq-w2a2/s0-abcdefgh."""
    path = Path("runs", "digits", "resnet18", name)
    path.mkdir(parents=True)
    seed = name.partition("/s")[2].partition("-")[0]
    config = CONFIG.replace("QUANTIZER", name.partition("-")[0]).replace("SEED", seed)
    (path / "config.yaml").write_text(config)
    if state:
        runs.write_status(path, state, message)  # type: ignore[arg-type]
    if state == "done":
        (path / "summary.json").write_text(json.dumps({**SUMMARY, "key": name[-8:], **(summary or {})}))
    for epoch in range(1, epochs + 1):
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch, "epochs": 20, "hard": {"top1": 90.0 + epoch}}) + "\n")
    return path


def rows(out: str) -> list[list[str]]:
    """The words of each row of a printed table."""
    lines = out.splitlines()
    rule = next((at for at, line in enumerate(lines) if line.startswith(" ─")), len(lines))
    return [line.split() for line in takewhile(str.strip, lines[rule + 1 :])]


def listed(out: str) -> list[str]:
    """The hashes in a printed list of runs."""
    return [row[0] for row in rows(out)]


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put somebody in front of the terminal who types `text`."""
    typed = io.StringIO(text)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
