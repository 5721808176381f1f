"""The tests themselves: they mirror the package, share what is in tests/support alone, and each of them asserts."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import qexp

TESTS, PACKAGE = Path(__file__).resolve().parents[1], Path(qexp.__file__).parent
FILES = sorted(TESTS.rglob("*.py"))
SHARED = {path.stem for path in FILES if path.parent.name == "support"}
OF_NO_FOLDER = {
    "golden",
    "own_package",
    "package",
    "scripts",
    "stores",
    "support",
}  # of the whole, files


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_test_imports_a_test() -> None:
    """Nor a conftest; what several need lies in tests/support."""
    own = {path.stem for path in FILES} - SHARED
    found = {str(path): set(imported(ast.parse(path.read_text()))) for path in FILES}
    wrong = {
        name: [one for one in names if set(one.split(".")) & own or one[0] == "."] for name, names in found.items()
    }
    assert {name: names for name, names in wrong.items() if names} == {}


def test_everything_shared_is_used() -> None:
    names = {name for path in FILES for name in imported(ast.parse(path.read_text()))}
    scripts = (TESTS.parent / "scripts").rglob("*.py")
    names |= {name for path in scripts for name in imported(ast.parse(path.read_text()))}
    assert {name for name in SHARED if f"support.{name}" not in names} == set()


def test_folders_are_those_of_the_package() -> None:
    ours = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    theirs = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "conf")}
    assert ours - OF_NO_FOLDER == theirs


def asserts(test: ast.AST, helpers: set[str]) -> bool:
    """Whether a function asserts, or calls something that does."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in helpers | {"raises", "warns", "assert_close"} or (
                name in ("run", "check_call") and any(k.arg == "check" for k in node.keywords)
            ):
                return True
    return False


def test_every_test_asserts_something() -> None:
    functions = [
        (path, node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    helpers = {node.name for _, node in functions if not node.name.startswith("test_") and asserts(node, set())}
    tests = [(path, node) for path, node in functions if node.name.startswith("test_")]
    assert [f"{path}: {node.name}" for path, node in tests if not asserts(node, helpers)] == []
    assert len(tests) > 500


def test_every_target_and_every_script_is_started_by_ci() -> None:
    """A target that nobody starts ends in an ImportError one day; `lowest` loads another torch, and is run by hand."""
    root = TESTS.parent
    makefile, steps = (root / "Makefile").read_text(), (root / ".ci" / "run").read_text()
    targets = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    assert [name for name in targets if not re.search(rf"\b(make|own) {name}\b(?!-)", steps)] == ["lowest"]
    scripts = {path.name for path in (root / "scripts").iterdir() if path.suffix == ".py" or path.is_dir()}
    data = {"mistakes.py", "__pycache__"}
    assert {name for name in scripts - data if f"scripts/{name}" not in makefile} == set()
