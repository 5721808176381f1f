"""A run that was begun with data or weights that have changed since."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.config.config import Config
from qexp.config.identity import identity
from qexp.config.places import data_root
from qexp.runs.stored_trees import StoredTrees
from qexp.utils.errors import UsageError

_WITH_FILES = ("dataset", "model")  # sections of a tree that may have a digest of the user's own files


def check_data_as_before(config: Config) -> None:
    """Raise UsageError if the same run was begun, and not ended, with other data or weights in the same place.

    What these are is part of what a run is, so that it would begin anew, in another directory, and nobody would be told
    why.
    """
    path = runs.run_directory(config)
    if config.overwrite or path.exists() or not any("digest" in config.tree[key] for key in _WITH_FILES):
        return
    trees, ours, place = StoredTrees(), _without_digests(config.tree), data_place(config)
    for other in path.parent.glob(f"s{config.seed}-*"):
        found = _tree(trees, other)
        if (
            found is not None
            and _without_digests(found) == ours
            and (other / "last.pt").exists()
            and runs.state_of(other) != "done"
            and (changed := _changed(config.tree, found)) is not None
            and (changed == "model" or (runs.read_json(other / "env.json") or {}).get("data_place") == place)
        ):
            if changed == "model":
                raise UsageError(
                    f"model.pretrained={config.model.options['pretrained']}: has changed since {other} was begun; put "
                    "it back to resume it, or say overwrite=true to begin another run with the file as it is"
                )
            raise UsageError(
                f"dataset={config.dataset.name}: its files have changed since {other} was begun; put them back to "
                "resume it, or say overwrite=true to begin another run with the files as they are"
            )


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return the section whose files differ between two trees; None where not both tell."""
    for key in _WITH_FILES:
        digests = [tree[key].get("digest") for tree in (ours, theirs)]
        if None not in digests and digests[0] != digests[1]:
            return key
    return None


def _tree(trees: StoredTrees, path: Path) -> dict[str, Any] | None:
    try:
        return trees.load(path / "config.yaml")
    except Exception:  # of the file, of YAML: it is no run that can be resumed
        return None


def data_place(config: Config) -> str:
    """Return what stands for the folder of datasets in env.json, which holds no paths."""
    folder = data_root(config.data_dir) / str(config.dataset.options.get("path") or "")
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]


def _without_digests(tree: Any) -> Any:
    """Return what a run computes but for its files, weights under the path that was said; None for a damaged record."""
    try:
        found = identity(tree)
        found["dataset"].pop("digest", None)
        if found["model"].pop("digest", None) is not None:
            found["model"]["pretrained"] = tree["model"]["pretrained"]
        return found
    except (KeyError, TypeError, AttributeError):
        return None
