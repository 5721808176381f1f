"""A run that was begun with data that have changed since."""

import hashlib
import os
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.config.config import Config
from qexp.config.identity import identity
from qexp.config.places import data_root
from qexp.runs.stored_trees import StoredTrees
from qexp.utils.errors import UsageError


def check_data_as_before(config: Config) -> None:
    """Raise UsageError if the same run was begun, and not ended, with other data in the same place.

    The fingerprint of the data is part of what a run is, so that it would begin anew, in another directory, and nobody
    would be told why.
    """
    path = runs.run_directory(config)
    if config.overwrite or path.exists() or "digest" not in config.tree["dataset"]:
        return
    trees, ours, place = StoredTrees(), _without_digest(config.tree), data_place(config)
    for other in path.parent.glob(f"s{config.seed}-*"):
        found = _tree(trees, other)
        if (
            _without_digest(found) == ours
            and (runs.read_json(other / "env.json") or {}).get("data_place") == place
            and (other / "last.pt").exists()
            and runs.state_of(other) != "done"
        ):
            raise UsageError(
                f"dataset={config.dataset.name}: its files have changed since {other} was begun; put them back to "
                "resume it, or say overwrite=true to begin another run with the files as they are"
            )


def _tree(trees: StoredTrees, path: Path) -> dict[str, Any] | None:
    try:
        return trees.load(path / "config.yaml")
    except Exception:  # of the file, of YAML: it is no run that can be resumed
        return None


def data_place(config: Config) -> str:
    """Return what stands for the folder of datasets in env.json, which holds no paths."""
    folder = data_root(config.data_dir) / str(config.dataset.options.get("path") or "")
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]


def _without_digest(tree: Any) -> Any:
    """Return what a run computes but for the data; None for a damaged record, and one that does not tell its data."""
    try:
        found = identity(tree)
        del found["dataset"]["digest"]
        return found
    except (KeyError, TypeError, AttributeError):
        return None
