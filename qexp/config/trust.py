"""Which packages of the user's own may be imported: those that the words of a command or QEXP_TRUST name, no others.

A file that somebody sent cannot name one: `trust` is no option of a configuration, and hydra.job.env_set cannot set the
variable. What is trusted stands in the environment, so that the processes of a launcher know it too.
"""

import importlib
import keyword
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, TracebackType

from qexp.utils.errors import UsageError
from qexp.utils.text import few, one_line

NAMES, FOLDERS = "QEXP_TRUST", "QEXP_TRUST_PATH"  # packages by commas; folders where they are looked for besides
# What qexp itself stands on is nobody's own. Python's library is refused as a whole.
BUILT_ON = frozenset(
    (
        *("qexp", "torch", "torchvision", "numpy", "scipy", "sklearn", "PIL", "hydra", "hydra_plugins", "omegaconf"),
        *("yaml", "antlr4", "filelock", "tensorboard", "rich", "joblib", "safetensors", "pytest", "pip", "setuptools"),
        *("timm", "huggingface_hub"),
    )
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")  # no private modules, classes or functions


def package_of(target: str) -> str:
    """Return the package of a target: `my_package` of `my_package.module.Name`."""
    return target.partition(".")[0]


def name_problem(name: str) -> str | None:
    """Return why nobody can trust a package of this name, None where one may."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        return "must be the name of a package, without dots, such as my_package"
    if name in sys.stdlib_module_names or name in BUILT_ON:
        return "is a part of Python, or of what qexp is made of; only a package of your own can be trusted"
    return None


def is_own(target: str) -> bool:
    """Whether a target has the form of something public in a package of the user's own."""
    return bool(_TARGET.fullmatch(target)) and name_problem(package_of(target)) is None


def trusted() -> tuple[str, ...]:
    """Return the names of the packages that may be imported."""
    return tuple(name for name in os.environ.get(NAMES, "").split(",") if name and name_problem(name) is None)


def trust_problem(target: str) -> str | None:
    """Return why nothing of an own target may be imported, None where it may."""
    package, names = package_of(target), trusted()
    if package in names:
        return None
    others = f" (trusted are: {few(names, 8)})" if names else ""
    return f"is of the package {package}, of which nothing is run unless you name it: trust={package}{others}"


def trust_words() -> list[str]:
    """Return what is trusted as words of a command."""
    names = trusted()
    return [f"trust={names[0] if len(names) == 1 else '[' + ','.join(names) + ']'}"] if names else []


@contextmanager
def trusting(words: Sequence[str], *, takes_words: bool = True) -> Iterator[list[str]]:
    """Trust what the words of a command and QEXP_TRUST name inside the block; yield the other words.

    Args:
        words: of the command.
        takes_words: whether the command runs code of the user's own; if false, all its words are left.

    Raises:
        UsageError: a name that nobody can trust.
    """
    if not takes_words:
        yield list(words)
        return
    rest, names = [], [name.strip() for name in os.environ.get(NAMES, "").split(",") if name.strip()]
    sources = dict.fromkeys(names, NAMES)
    for word in words:
        key, _, value = word.partition("=")
        if key != "trust" or word == key:
            rest.append(word)
            continue
        inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        named = [name.strip(" ") for name in inside.split(",")]
        sources |= dict.fromkeys(named, "trust")
    for name, source in sources.items():
        if problem := name_problem(name):
            raise UsageError(f"{source}={one_line(name)}: {problem}")
    folders = [*_config_folders(rest), *filter(None, os.environ.get(FOLDERS, "").split(os.pathsep))]
    found = {NAMES: ",".join(sources), FOLDERS: os.pathsep.join(dict.fromkeys(folders))}
    before = {key: os.environ[key] for key in found if key in os.environ}
    os.environ.update(found)
    try:
        yield rest
    finally:
        for key in found:
            os.environ.pop(key, None)
        os.environ.update(before)


def _config_folders(words: Sequence[str]) -> Iterator[str]:
    """Yield the folders around those of --config-dir."""
    for word, following in zip(words, [*words, ""][1:], strict=True):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd") and (value or following):
            yield str(Path(os.path.abspath(value or following)).parent)


class _Finder(MetaPathFinder):
    """Finds trusted packages, and no others, in the working directory and beside the folder of --config-dir.

    What is installed comes first; a folder that is no package and only has the name of one comes last.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in trusted():
            return None
        others = (one.find_spec(fullname, None) for one in sys.meta_path if one is not self)
        installed = next((spec for spec in others if spec is not None and spec.origin), None)
        folders = [os.getcwd(), *filter(None, os.environ.get(FOLDERS, "").split(os.pathsep))]
        return installed or PathFinder.find_spec(fullname, folders)


_FINDER = _Finder()


def find_package(name: str) -> ModuleSpec | None:
    """Return where a trusted package lies, without importing it; None where it is not found."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    importlib.invalidate_caches()  # somebody may have written it a moment ago
    return find_spec(name)


def place_of_error(error: BaseException) -> str | None:
    """Return `my_package/module.py, line 7`, where an error arose in a trusted package; None for any other."""
    names, found = trusted(), None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if package_of(str(trace.tb_frame.f_globals.get("__name__"))) in names:
            found = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename and names:
        found = error.filename, error.lineno or 0
    if found is None:
        return None
    path = Path(found[0])
    here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{here}, line {found[1]}"


def sys_exit(error: SystemExit) -> str:
    """Return what to say of an end of the process that nobody who runs a training may ask for."""
    asked = "" if error.code is None else one_line(repr(error.code))
    return f"own code called sys.exit({asked})"


def error_in_own_code(error: BaseException) -> str | None:
    """Return an error that arose in a trusted package in one line; None for any other."""
    if (place := place_of_error(error)) is None:
        return None
    if isinstance(error, SystemExit):
        return f"{place}: {sys_exit(error)}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{place}: {type(error).__name__}" + (f": {one_line(said)}" if said else "")
