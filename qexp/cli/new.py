"""`qexp new`: a small package with a method, a model, a data set or a table of one's own, and a test that passes."""

import keyword
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template

from qexp.cli.parser import Parser
from qexp.config.places import conf_dir
from qexp.config.trust import name_problem
from qexp.utils.errors import UsageError, cannot_write
from qexp.utils.text import one_line, suggest

DESCRIPTION = "Write a small package with a part of your own in it, a YAML file, and a test that passes."
EXAMPLES = """\
examples:
  qexp new method snap               my_snap/: the package my_snap, conf/quantizer/snap.yaml, tests/test_snap.py
  qexp new model tiny --to my_snap   another part of the same package
  qexp new dataset stripes           with a recipe, conf/recipe/stripes.yaml
  qexp new table mine                conf/paper/mine/1.yaml: qexp table --config-dir conf mine/1

The last line printed is the command that trains it. docs/own.md takes twenty minutes.
"""
SKELETONS = Path(__file__).parent / "skeletons"
GROUPS = {"method": "quantizer", "model": "model", "dataset": "dataset", "table": "paper"}  # kind -> folder of conf
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Where each skeleton goes.
_FILES = {
    "method": {
        "method": "$package/$name.py",
        "method_yaml": "conf/quantizer/$name.yaml",
        "method_test": "tests/test_$name.py",
    },
    "model": {
        "model": "$package/$name.py",
        "model_yaml": "conf/model/$name.yaml",
        "model_test": "tests/test_$name.py",
    },
    "dataset": {
        "dataset": "$package/$name.py",
        "dataset_yaml": "conf/dataset/$name.yaml",
        "dataset_recipe": "conf/recipe/$name.yaml",
        "dataset_test": "tests/test_$name.py",
    },
    "table": {"table_yaml": "conf/paper/$name/1.yaml", "table_test": "tests/test_$name.py"},
}
_COMMANDS = {
    "method": "qexp train --config-dir conf trust=$package quantizer=$name bits=2",
    "model": "qexp train --config-dir conf trust=$package model=$name quantizer=daq bits=2",
    "dataset": "qexp train --config-dir conf trust=$package dataset=$name model=resnet20 quantizer=daq bits=2",
    "table": "qexp table --config-dir conf $name/1 --run --protocol smoke",
}


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Write the files and print what they are for; return the exit code."""
    parser = Parser("qexp new", DESCRIPTION, usage="qexp new KIND NAME [--to DIR]", epilog=EXAMPLES)
    parser.add_argument("kind", metavar="KIND", help=", ".join(GROUPS))
    parser.add_argument("name", metavar="NAME", help="of the part: small letters, digits and _")
    parser.add_argument("--to", metavar="DIR", help="the folder, whose name the package has (default: my_NAME)")
    arguments = parser.parse(words)
    kind, name = arguments.kind, arguments.name
    _check_name(kind, name)
    root = Path(f"my_{name}" if arguments.to is None else arguments.to)
    package = root.absolute().resolve().name
    _check_root(root, package)
    names = {"name": name, "Name": "".join(word.title() for word in name.split("_")), "package": package}
    command = Template(_COMMANDS[kind]).substitute(names)
    files = _files(kind, root, {**names, "command": command})
    if taken := [path for path in files if path.exists() or path.is_symlink()]:
        raise UsageError(f"{taken[0]}: is there already, and nothing is overwritten; take another name")
    _write(root, files)
    for path in files:
        print(path)
    inside = f"cd {shlex.quote(str(root))} && " if root.resolve() != Path.cwd() else ""
    print(f"\nits tests:  {inside}python -m pytest\ntrain it:   {inside}{command}")
    return 0


def _check_name(kind: str, name: str) -> None:
    """Raise UsageError for a kind that is none, and a name that a module or a choice cannot have."""
    if kind not in GROUPS:
        raise UsageError(f"{one_line(kind)}: no such kind{suggest(kind, GROUPS)}; there are {', '.join(GROUPS)}")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(f"{one_line(name)}: a name has small letters, digits and _, and is no word of Python")
    if name in sys.stdlib_module_names or _is_installed(name):
        raise UsageError(f"{name}: Python has a module of that name already; take another one")
    group = conf_dir() / GROUPS[kind]
    if (group / name).exists() or (group / f"{name}.yaml").exists():
        raise UsageError(f"{name}: qexp has a {kind} of that name already; take another one")


def _check_root(root: Path, package: str) -> None:
    """Raise UsageError for a folder that cannot hold a package of its own name."""
    if problem := name_problem(package):
        raise UsageError(f"--to {one_line(str(root))}: the package has the folder's name, which {problem}")
    if not root.exists() and not root.is_symlink():
        if _is_installed(package):
            raise UsageError(f"--to {root}: Python has a package of that name already; take another one")
    elif not root.is_dir():
        raise UsageError(f"{root}: is there already, and is no folder; name another one by --to DIR")
    elif any(root.iterdir()) and not (root / "conf").is_dir():
        raise UsageError(f"{root}: is there already, and is no folder of qexp new; name another one by --to DIR")


def _is_installed(name: str) -> bool:
    try:
        found = find_spec(name)
    except (ImportError, ValueError):  # of a module that has no record of itself
        return True
    return found is not None and found.origin is not None


def _files(kind: str, root: Path, names: Mapping[str, str]) -> dict[Path, str]:
    """Return what is to be written: path -> text. What all parts of a package share is left as it is."""
    shared = {"readme": "README.md", "pyproject": "pyproject.toml"}
    if kind != "table":
        shared["init"] = "$package/__init__.py"
    wanted = {skeleton: root / Template(path).substitute(names) for skeleton, path in shared.items()}
    wanted = {skeleton: path for skeleton, path in wanted.items() if not path.exists()}
    wanted |= {skeleton: root / Template(path).substitute(names) for skeleton, path in _FILES[kind].items()}
    return {path: _text(skeleton, names) for skeleton, path in wanted.items()}


def _text(skeleton: str, names: Mapping[str, str]) -> str:
    return Template((SKELETONS / f"{skeleton}.txt").read_text()).substitute(names)


def _write(root: Path, files: Mapping[Path, str]) -> None:
    """Write the files; what cannot be written leaves nothing behind. Raises QexpError."""
    folders = {folder for path in files for folder in path.parents}
    made = [folder for folder in sorted(folders, key=lambda one: len(one.parts)) if not folder.exists()]
    written: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise cannot_write(root, error) from error
