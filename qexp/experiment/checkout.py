"""The state of the checkout that qexp runs from: what a result was computed with, what a figure was drawn with."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of the checkout that holds the package in `folder`, None outside of one.

    Returns:
        `commit`; `dirty`, whether any tracked file differs from it; and `changes`, which stands for everything
        uncommitted that can change a result: the first 16 hex digits of a SHA-256 over the names and contents of files
        in `folder` and in conf/ beside it that differ from the commit or are new and not ignored. None without any.
    """
    try:
        if not _git(folder, "ls-files", "--", "."):  # installed inside somebody else's checkout: not tracked there
            return None
        return {
            "commit": _git(folder, "rev-parse", "HEAD").decode().strip(),
            "dirty": bool(_git(folder, "status", "--porcelain", "-uno")),
            "changes": _changes(folder),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> bytes:
    """Return what git prints; it finds its repository by the folder, and takes no orders from the environment."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options: Any = {"env": variables, "stdin": subprocess.DEVNULL, "timeout": 10}
    return subprocess.run(command, capture_output=True, check=True, **options).stdout


def _changes(folder: Path) -> str | None:
    root, places = folder.parent, ("--", folder.name, "conf")
    # Names and contents instead of a diff, whose text depends on the git configuration of the user.
    changed = _git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD", *places)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *places)
    names = sorted({name for name in (changed + new).split(b"\0") if name})
    digest = hashlib.sha256()
    for name in names:
        digest.update(name + b"\0" + _content_digest(root / os.fsdecode(name)) + b"\0")
    return digest.hexdigest()[:16] if names else None


def _content_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, and a word for a file that was deleted or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest().encode()
    except OSError as error:
        return type(error).__name__.encode()
