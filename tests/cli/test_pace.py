"""How far a run is, and how long the rest takes, by its metrics.jsonl."""

import json
import os
import time
from pathlib import Path

from qexp.cli.pace import StoredPace, stored_pace


def log(folder: Path, *records: object, ago: float = 0.0) -> Path:
    """A run whose log holds these, the last one written so many seconds ago."""
    file = folder / "metrics.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    os.utime(file, (time.time() - ago,) * 2)
    return folder


def epoch(number: int, seconds: float, top1: float | None = None) -> dict:
    hard = None if top1 is None else {"top1": top1}
    return {"epoch": number, "epochs": 20, "time_seconds": seconds, "hard": hard}


def test_the_pace_is_that_of_the_last_five_epochs(tmp_path: Path) -> None:
    found = stored_pace(log(tmp_path, epoch(1, 1000.0), *(epoch(at, 8.0 + at) for at in range(2, 8))))
    assert (found.epoch, found.epochs, found.top1) == (7, 20, None)
    assert found.seconds_left is not None
    assert abs(found.seconds_left - 13 * 13.0) < 1.0  # of 11, 12, ... 15 seconds


def test_time_since_the_last_epoch_counts_up_to_one_epoch(tmp_path: Path) -> None:
    records = [epoch(1, 10.0), epoch(2, 10.0)]
    for ago, left in ((4.0, 176.0), (60.0, 170.0), (-500.0, 180.0)):  # of another machine, whose clock is ahead
        assert abs((stored_pace(log(tmp_path, *records, ago=ago)).seconds_left or 0.0) - left) < 1.0


def test_the_accuracy_is_that_of_the_last_evaluation(tmp_path: Path) -> None:
    assert stored_pace(log(tmp_path, epoch(1, 1.0, 50.0), epoch(2, 1.0, 61.5), epoch(3, 1.0))).top1 == 61.5


def test_the_last_epoch_leaves_nothing(tmp_path: Path) -> None:
    again = epoch(20, 1.0, 70.0) | {"before_norm": {}}
    assert stored_pace(log(tmp_path, epoch(20, 1.0, 60.0), again)) == StoredPace(20, 20, 70.0, None)


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert stored_pace(tmp_path) == StoredPace()
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff{\n[1]\n{"epoch": "1"}\n{"epoch": NaN}\n' + b"[" * 5000)
    assert stored_pace(tmp_path) == StoredPace()
    odd = {"epoch": 2, "epochs": "many", "hard": {"top1": float("nan")}, "time_seconds": None}
    assert stored_pace(log(tmp_path, odd)) == StoredPace(2, None, None, None)


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    with (log(tmp_path, epoch(1, 2.0, 50.0)) / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "epo')
    assert stored_pace(tmp_path).epoch == 1
