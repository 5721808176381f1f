"""The house of DESIGN.md: a folder is a layer, a module has neighbours, a name means one thing."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import qexp

PACKAGE = Path(qexp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Folder -> the folders that it may import from: all that lie lower. Siblings do not know each other.
_GROUND = ("utils", "data", "models", "quantizers", "engine", "tracking")
_RUNS = (*_GROUND, "figures", "config", "runs")
BELOW = {
    "utils": (),
    "data": ("utils",),
    "models": ("utils",),
    "quantizers": ("utils",),
    "engine": ("utils",),
    "tracking": ("utils",),
    "figures": ("utils", "quantizers"),
    "config": _GROUND,
    "runs": (*_GROUND, "config"),
    "experiment": _RUNS,
    "tables": (*_RUNS, "experiment"),
    "report": (*_RUNS, "experiment", "tables"),
    "cli": (*_RUNS, "experiment", "tables", "report"),
}
KNOW_HYDRA = ("config", "cli", "tables", "experiment")
# The interface of every subcommand and of every figure; and the only names that several modules may share.
SHARED = {"main", "make"}
# Charts of tensors without a store, each for one module of report, beside those that trainings draw as well; and two
# modules that one command opens the pages of report with.
USED_FROM_OUTSIDE = {
    *("qexp.figures.mixing_error", "qexp.figures.surface"),
    *("qexp.report.page_html", "qexp.report.page_table"),
}


def name_of(path: Path) -> str:
    """`qexp.data.loader` for .../qexp/data/loader.py, `qexp.data` for its __init__.py."""
    parts = ("qexp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(name: str) -> str:
    """The folder that a module lies in: `data` for qexp.data.loader, '' for qexp itself."""
    return f"{name}.".split(".")[1]


KNOWN = {name_of(path) for path in MODULES}


def imports_of(source: str, name: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for all imports, also those inside functions; `from qexp import runs` means qexp.runs."""
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield node.lineno, inner if inner in KNOWN or origin == "qexp" else origin


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    return imports_of(path.read_text(), name_of(path), path.name == "__init__.py")


def public_names(path: Path) -> Iterator[str]:
    """The classes and functions that a module defines at its top, without those that begin with an underscore."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name


def test_two_modules_stand_at_the_top() -> None:
    assert [path.name for path in MODULES if path.parent == PACKAGE] == ["__init__.py", "__main__.py"]
    assert {folder_of(name_of(path)) for path in MODULES if path.parent != PACKAGE} == set(BELOW)


@pytest.mark.parametrize("folder", BELOW)
def test_imports_point_down(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        for line, module in own_imports(path):
            there = folder_of(module)
            if module.split(".")[0] == "qexp" and there not in (folder, ""):
                assert there in BELOW[folder], f"{path}:{line} imports {module}: not below {folder}"


def test_a_module_with_one_importer_lies_beside_it() -> None:
    """Else it belongs into the folder of that importer, or into the importer."""
    importers = defaultdict(set)
    for path in MODULES:
        for _, module in own_imports(path):
            importers[module].add(name_of(path))
    lonely = {
        module: only
        for module in KNOWN
        if module.count(".") == 2 and len(only := importers[module] - {module}) == 1
        if folder_of(next(iter(only))) not in (folder_of(module), "__main__")
    }
    assert lonely.keys() == USED_FROM_OUTSIDE


def test_a_name_means_one_thing() -> None:
    """No two public classes or functions of one name, none that is called as a module, no two modules of one name."""
    defined = defaultdict(set)
    for path in MODULES:
        module = name_of(path)
        for name in public_names(path):
            defined[name].add(module)
        # A subcommand's module has the user's word for it, and a folder may have its name's main module.
        if path.name != "__init__.py" and folder_of(module) not in ("cli", path.stem):
            defined[path.stem].add(module)
    folders = {name: {name} for name in BELOW}
    doubles = {name: places | folders.get(name, set()) for name, places in defined.items() if name not in SHARED}
    assert {name: sorted(places) for name, places in doubles.items() if len(places) > 1} == {}


def test_files_and_functions_fit_on_a_screen() -> None:
    """Files have at most 300 lines, functions 40 without their docstrings."""
    long_files = {name_of(path): count for path in MODULES if (count := len(path.read_text().splitlines())) > 300}
    assert long_files == {}
    long_functions = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                start = (first.end_lineno or 0) + 1 if has_docstring else node.body[0].lineno
                if (lines := (node.end_lineno or 0) - start + 1) > 40:
                    long_functions[f"{name_of(path)}.{node.name}"] = lines
    assert long_functions == {}


def test_only_the_upper_floors_know_hydra() -> None:
    for path in MODULES:
        used = {module.split(".")[0] for _, module in own_imports(path)} & {"hydra", "omegaconf"}
        assert not used or folder_of(name_of(path)) in KNOW_HYDRA, path


def test_config_objects_stop_at_the_experiment() -> None:
    """Data, models, quantizers, engine and tracking are given plain arguments."""
    for folder in ("data", "models", "quantizers", "engine", "tracking", "figures"):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert not re.search(r"\bConfig\b", path.read_text()), path


@pytest.mark.parametrize("module", ["__init__", "__main__", "cli/main", "cli/parser", "utils/errors", "utils/text"])
def test_what_the_command_line_needs_to_answer_does_not_import_torch(module: str) -> None:
    roots = {name.split(".")[0] for _, name in own_imports(PACKAGE / f"{module}.py")}
    assert not roots & {"torch", "torchvision", "numpy", "hydra", "omegaconf", "rich"}


def test_the_reader_of_imports_reads_every_form() -> None:
    source = """
import os, qexp.runs
from qexp import errors, runs as store
from qexp.data.loader import Loader
from qexp.data import loader
from . import base
from .grids import Grid
from ..utils.types import Range
def late():
    import torch.nn
"""
    assert [module for _, module in imports_of(source, "qexp.quantizers.ste", is_package=False)] == [
        "os",
        "qexp.runs",
        "qexp.errors",
        "qexp.runs",
        "qexp.data.loader",
        "qexp.data.loader",
        "qexp.quantizers.base",
        "qexp.quantizers.grids",
        "qexp.utils.types",
        "torch.nn",
    ]
    assert [module for _, module in imports_of("from . import x", "qexp.data", is_package=True)] == ["qexp.data"]
