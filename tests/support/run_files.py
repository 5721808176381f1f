"""What a run leaves on disk, read."""

import json
from pathlib import Path
from typing import Any

import torch


def files_of(path: Path) -> dict[str, tuple[int, int]]:
    """Name -> (inode, time of the last change): what a repeated training would not leave alone."""
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in path.iterdir() if f.name != "lock"}


def when_written(store: Path) -> dict[Path, int]:
    """When every file of all runs was written."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "lock")
    return {path: path.stat().st_mtime_ns for path in files}


def summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text())


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "last.pt", weights_only=True)["model"]


def state(path: Path) -> str:
    return json.loads((path / "status.json").read_text())["state"]
