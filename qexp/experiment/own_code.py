"""Which code of the user's own a run was trained with, and that it has changed since."""

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qexp import runs
from qexp.config.config import Config
from qexp.config.sections import SECTIONS, named_functions
from qexp.config.trust import find_package, is_own, package_of, trust_problem
from qexp.utils.errors import UsageError


def own_targets(config: Config) -> list[str]:
    """Return the targets of a run that lie in packages of the user's own."""
    return [*_own_sections(config), *(section.target for section in named_functions(config.tree["recipe"]))]


def _own_sections(config: Config) -> list[str]:
    """Return those of them without which its network cannot be evaluated."""
    return [target for key in SECTIONS if is_own(target := getattr(config, key).target)]


def own_code(config: Config) -> dict[str, dict[str, str | None]]:
    """Return the version of each own package that a run names, and 16 hexadecimal digits for the code that it uses.

    That is the source of the modules that its parts lie in, and of all in the same package that these import, as far as
    an import statement says so; another part of the package may change meanwhile.
    """
    targets = own_targets(config)
    return {
        name: _state(name, [one for one in targets if package_of(one) == name]) for name in map(package_of, targets)
    }


def _state(package: str, targets: Sequence[str]) -> dict[str, str | None]:
    try:
        told = version(package)
    except PackageNotFoundError:  # a folder beside the configuration
        told = None
    spec = find_package(package)
    return {"version": told, "digest": None if spec is None else _digest(spec, targets)}


def _digest(spec: ModuleSpec, targets: Sequence[str]) -> str:
    """Return the digest of the names and contents of the modules that some targets need."""
    found, waiting = dict[str, bytes](), [target.rpartition(".")[0] for target in targets]
    while waiting:
        module = waiting.pop()
        waiting += [parent] if (parent := module.rpartition(".")[0]) else []
        path = None if module in found else _file_of(spec, module)
        if path is not None:
            found[module] = path.read_bytes()
            waiting += _imports(found[module], module, spec.name, is_package=path.name == "__init__.py")
    digest = hashlib.sha256()
    for module, content in sorted(found.items()):
        digest.update(module.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _file_of(spec: ModuleSpec, module: str) -> Path | None:
    """Return the file of a module of a package, None where there is none."""
    parts = module.split(".")[1:]
    if not parts and spec.origin:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *parts).with_suffix(".py"), Path(folder, *parts, "__init__.py")):
            if parts and path.is_file():
                return path
    return None


def _imports(source: bytes, module: str, package: str, *, is_package: bool) -> Iterator[str]:
    """Yield what a module imports of its own package; more names than there are modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    inside = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if package_of(name) == package)


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
    untrusted = [target for target in _own_sections(config) if trust_problem(target)]
    if untrusted:
        names = list(dict.fromkeys(map(package_of, untrusted)))
        given = names[0] if len(names) == 1 else f"'[{','.join(names)}]'"
        raise UsageError(
            f"{path} uses {', '.join(untrusted)}, of which nothing is run unless you name its package: "
            f"{command} trust={given}"
        )
