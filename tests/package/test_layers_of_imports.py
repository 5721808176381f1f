"""The layers of DESIGN.md: an import points down or sideways, never up; siblings do not know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qexp

PACKAGE = Path(qexp.__file__).parent
LEVELS = {
    1: ("types", "errors", "files", "stopping", "schedules", "schema", "observer"),
    2: ("data", "models", "quantizers", "engine", "tracking"),
    3: ("config", "runs"),
    4: ("plugins", "compose", "variants", "assemble", "training", "record", "experiment", "foreign", "lifecycle"),
    5: ("report", "sweep", "listing", "page", "tables"),
    6: ("cli", "commands", "__main__"),
}
LEVEL = {part: level for level, parts in LEVELS.items() for part in parts} | {"": 0}
SIBLINGS = LEVELS[2]
KNOW_HYDRA = ("config", "plugins", "compose", "variants", "commands")
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`qexp.data.loader` for .../qexp/data/loader.py, `qexp.data` for its __init__.py."""
    parts = ("qexp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name: str) -> str:
    """The part of the package that a module belongs to: `data` for qexp.data.loader, '' for qexp itself."""
    return f"{name}.".split(".")[1]


def imports_of(source: str, name: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for all imports, also those inside functions; `from qexp import runs` means qexp.runs."""
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            whole = origin == "qexp"
            yield from ((node.lineno, f"qexp.{alias.name}" if whole else origin) for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    return imports_of(path.read_text(), name_of(path), path.name == "__init__.py")


def ids(path: Path) -> str:
    return name_of(path)


def test_every_part_of_the_package_has_a_level() -> None:
    """A new module belongs into LEVELS above, which is the drawing of DESIGN.md."""
    assert {part_of(name_of(path)) for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_point_down(path: Path) -> None:
    here = part_of(name_of(path))
    for line, module in own_imports(path):
        if module.split(".")[0] != "qexp":
            continue
        there = part_of(module)
        assert there in LEVEL, f"{path}:{line} imports {module}, which is no part of the package"
        assert LEVEL[there] <= LEVEL[here], f"{path}:{line} imports {module}: up, from {LEVEL[here]} to {LEVEL[there]}"
        if here in SIBLINGS and there in SIBLINGS:
            assert here == there, f"{path}:{line} imports {module}: {here} and {there} are siblings"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_only_the_configuration_knows_hydra(path: Path) -> None:
    used = {module.split(".")[0] for _, module in own_imports(path)} & {"hydra", "omegaconf"}
    assert not used or part_of(name_of(path)) in KNOW_HYDRA


@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(name_of(p)) in ("", "cli", "errors", "schema", "types")]
)
def test_what_the_command_line_needs_to_answer_does_not_import_torch(path: Path) -> None:
    roots = {module.split(".")[0] for _, module in own_imports(path)}
    assert not roots & {"torch", "torchvision", "numpy", "hydra", "omegaconf", "rich"}


def test_the_reader_of_imports_reads_every_form() -> None:
    source = """
import os, qexp.runs
from qexp import errors, runs as store
from qexp.data.loader import Loader
from . import base
from .grids import Grid
from ..types import Range
def late():
    import torch.nn
"""
    assert [module for _, module in imports_of(source, "qexp.quantizers.ste", is_package=False)] == [
        "os",
        "qexp.runs",
        "qexp.utils.errors",
        "qexp.runs",
        "qexp.data.loader",
        "qexp.quantizers",
        "qexp.quantizers.grids",
        "qexp.utils.types",
        "torch.nn",
    ]
    assert [module for _, module in imports_of("from . import x", "qexp.data", is_package=True)] == ["qexp.data"]
