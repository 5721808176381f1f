"""Where things lie: qexp's YAML files, the run store, the datasets, and the checkpoint that `init` names."""

import hashlib
import os
from pathlib import Path

from qexp.utils.errors import UsageError
from qexp.utils.files import found_below, is_file, is_folder
from qexp.utils.text import one_line

MOST_BYTES = 4 * 2**30  # of a checkpoint to begin with
WORDS = ("fp", "scratch", "torchvision")  # what `init` may say besides a run or a file


def conf_dir() -> Path:
    """Return the folder of the YAML files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "conf", package.parent / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"qexp's conf/train.yaml is neither in {package} nor beside it: the installation is incomplete"
    )


def choices(group: str) -> list[str]:
    """Return the names that a group of qexp's own YAML files offers."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def store_root(runs_dir: str | None) -> Path:
    """Return the run store: `runs_dir`, else $QEXP_RUNS, else ./runs."""
    return Path(runs_dir or os.environ.get("QEXP_RUNS") or "runs").expanduser()


def data_root(data_dir: str | None) -> Path:
    """Return the folder of datasets: `data_dir`, else $QEXP_DATA, else ./data."""
    return Path(data_dir or os.environ.get("QEXP_DATA") or "data").expanduser()


def check_config_dir(folder: str | None) -> None:
    """Raise UsageError if the user's own folder of options is not there; None is none."""
    if folder == "":
        raise UsageError("--config-dir: names nothing")
    if folder is not None and not is_folder(folder):
        raise UsageError(f"--config-dir {one_line(folder)}: no such folder")


def list_runs(root: Path) -> list[Path]:
    """Return the run directories in the store, in order of their names."""
    return sorted(status.parent for status in found_below(root, "*/*/*/*/status.json"))


def find_run(root: Path, text: str) -> Path:
    """Return the run that `text` names: its directory, or the beginning of its hash.

    Raises:
        UsageError: no run, or several.
    """
    if text and is_file(Path(text) / "config.yaml"):
        return Path(text)
    found = [path for path in list_runs(root) if path.name.partition("-")[2].startswith(text)] if text else []
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found[:4]))
        raise UsageError(f"'{text}' names {len(found)} runs: {listed}; give more letters, or the directory")
    raise UsageError(
        f"no run '{one_line(text)}': it is neither a run directory nor the hash of a run in {root} (see qexp runs)"
    )


def starting_checkpoint(init: str, runs_dir: str | None) -> Path | None:
    """Return the file that `init=PATH or RUN` names; None for `fp`, `scratch` and `torchvision`.

    Raises:
        UsageError: it names nothing.
    """
    if init in WORDS:
        return None
    if is_file(init):
        if Path(init).stat().st_size > MOST_BYTES:
            raise UsageError(f"init={init}: is larger than {MOST_BYTES // 2**30} GB, which no network here is")
        return Path(init)
    try:
        path = find_run(store_root(runs_dir), init) / "last.pt"
    except UsageError as error:
        raise UsageError(
            f"init={one_line(init)}: must be {', '.join(WORDS)}, a checkpoint file or a run; {error}"
        ) from None
    if not is_file(path):
        raise UsageError(f"init={init}: that run has no last.pt yet")
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
