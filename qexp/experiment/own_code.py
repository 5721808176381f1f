"""Which code of the user's own a run was trained with, and that it has changed since."""

import hashlib
import os
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.config.config import SECTIONS, Config
from qexp.config.trust import find_package, is_own, package_of, trust_problem
from qexp.utils.errors import UsageError


def own_targets(config: Config) -> list[str]:
    """Return the targets of a run that lie in packages of the user's own."""
    return [target for key in SECTIONS if is_own(target := getattr(config, key).target)]


def own_code(config: Config) -> dict[str, dict[str, str | None]]:
    """Return the version of each own package that a run names, and 16 hexadecimal digits for its source files.

    All Python files of the package count, those that a run does not import as well: which it does may change.
    """
    return {name: _state(name) for name in dict.fromkeys(map(package_of, own_targets(config)))}


def _state(name: str) -> dict[str, str | None]:
    try:
        told = version(name)
    except PackageNotFoundError:  # a folder beside the configuration
        told = None
    spec = find_package(name)
    return {"version": told, "digest": None if spec is None else _digest(spec)}


def _digest(spec: ModuleSpec) -> str:
    """Return the digest of the names and contents of a package's Python files."""
    found = hashlib.sha256()
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [(path, path.relative_to(folder)) for folder in folders for path in folder.rglob("*.py")]
    if not folders and spec.origin:
        files = [(Path(spec.origin), Path(Path(spec.origin).name))]
    for path, name in sorted(files, key=lambda pair: pair[1].as_posix()):
        if path.is_file():
            found.update(os.fsencode(name.as_posix()) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def changed_code(path: Path, config: Config) -> str | None:
    """Return that a run's own code is not what its record says, in one line; None where it is, or nobody knows."""
    if not own_targets(config):
        return None
    return told_change((runs.read_json(path / "env.json") or {}).get("own"), own_code(config))


def told_change(before: Any, now: Mapping[str, Mapping[str, str | None]]) -> str | None:
    """Return in which packages two records of own code differ, in one line; None for none."""
    if not isinstance(before, Mapping):
        return None
    changed = [name for name, state in now.items() if name in before and before[name] != state]
    return f"the code of {', '.join(changed)} has changed since this run was trained" if changed else None


def check_trust(config: Config, path: Path, command: str) -> None:
    """Raise UsageError where a recorded run has parts of packages that are not trusted.

    Args:
        config: of the run.
        path: of the run.
        command: that would do what is asked, but for the trust.
    """
    untrusted = [target for target in own_targets(config) if trust_problem(target)]
    if untrusted:
        names = list(dict.fromkeys(map(package_of, untrusted)))
        given = names[0] if len(names) == 1 else f"'[{','.join(names)}]'"
        raise UsageError(
            f"{path} uses {', '.join(untrusted)}, of which nothing is run unless you name its package: "
            f"{command} trust={given}"
        )
