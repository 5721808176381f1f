"""What Hydra makes objects of, besides qexp's own: its plugins and the classes of logging, and nothing else.

A YAML file that somebody sent may name any function under `hydra.callbacks` or as a handler of `hydra.job_logging`;
Hydra would import and call it.
"""

import importlib
import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qexp.config.schema import Problem

PLUGINS = re.compile(r"(hydra\._internal\.core_plugins|hydra_plugins|hydra\.experimental|optuna\.(samplers|pruners))\.")
PICKLES = "PickleJobInfoCallback"  # writes files where the tree says
# Handlers of logging that print; others write files, open sockets or send mail.
LOGGING = ("logging.StreamHandler", "logging.NullHandler", "logging.Formatter", "rich.logging.RichHandler")
COLORLOG = ("colorlog.StreamHandler", "colorlog.ColoredFormatter", "colorlog.TTYColoredFormatter")
FILE = "logging.FileHandler"
LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"  # Hydra's own, which it appends to
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
MAKERS = ("class", "()", "listener", "queue")  # what logging imports and calls


def plugin_problems(node: DictConfig) -> list[Problem]:
    """Return what is wrong with Hydra's own part of a composed tree.

    A problem for everything that would import or call what is not Hydra's or logging's own, and for a launcher or
    sweeper that cannot be made. Nothing but Hydra's plugins, which it has imported already, is imported here.
    """
    message = "is nothing of Hydra's or of Python's logging, and nothing else is run"
    problems = []
    for part in ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging"):
        is_known = _is_log if part.endswith("logging") else _is_plugin
        found = [leaf for leaf in _leaves(node[part], part) if not is_known(*leaf[1:])]
        if part.endswith("logging"):
            found = [leaf for leaf in found if not _is_hydras_file(node[part], leaf[0].split(".")[1:], leaf[1])]
        problems += [Problem(f"hydra.{path}.{key}", message, value) for path, key, value in found]
        if node[part] is not None and not OmegaConf.is_dict(node[part]):
            problems.append(Problem(f"hydra.{part}", "must be a group of options", node[part]))
    if not isinstance(node.verbose, bool | str) and not OmegaConf.is_list(node.verbose):
        problems.append(Problem("hydra.verbose", "must be true, false or names of loggers", node.verbose))
    if not problems:
        problems = [problem for part in ("launcher", "sweeper") if (problem := _unusable(part, node[part]))]
    return problems


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (path of the group, key, value), references to elsewhere in the tree followed."""
    if not OmegaConf.is_config(node) or node._is_none():
        return
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:  # known later, or never
            value = "???"
        if not OmegaConf.is_config(value) or key in ("_target_", "level", *MAKERS):
            yield path, str(key), value
        else:
            yield from _leaves(value, f"{path}.{key}")


def _is_log(key: str, value: Any) -> bool:
    """Whether logging may be given this: plain values, its own classes, the two streams of the process."""
    if key in MAKERS:
        return value in (*LOGGING, *COLORLOG, FILE)
    if key == "level":
        return isinstance(value, int) or value in logging.getLevelNamesMapping()
    if key in ("filters", "filename", "."):
        return False
    return value in STREAMS or not (isinstance(value, str) and value.startswith(("ext://", "cfg://")))


def _is_hydras_file(logging_part: DictConfig, path: Sequence[str], key: str) -> bool:
    """Whether this is the name of the log file as Hydra's own configuration has it, which is only appended to."""
    if key != "filename" or path[:1] != ["handlers"] or len(path) != 2:
        return False
    raw: Any = OmegaConf.to_container(logging_part, resolve=False)
    handlers = raw["handlers"] if isinstance(raw, dict) else None
    handler = handlers.get(path[1]) if isinstance(handlers, dict) else None
    return isinstance(handler, dict) and handler.get("filename") == LOG_FILE and "mode" not in handler


def _is_plugin(key: str, value: Any) -> bool:
    return key != "_target_" or (not str(value).endswith(f".{PICKLES}") and _plugin(str(value)) is not None)


def _plugin(path: str) -> type | None:
    """Return the class of Hydra that has this path, and was not just imported there from elsewhere."""
    module, _, name = path.rpartition(".")
    if not PLUGINS.match(f"{module}."):
        return None
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and PLUGINS.match(f"{found.__module__}.") else None


def _unusable(part: str, node: Any) -> Problem | None:
    """Return why Hydra could not make its launcher or sweeper of these options."""
    options = {str(key): value for key, value in node.items()} if OmegaConf.is_dict(node) and node else {}
    found = _plugin(str(options.pop("_target_", "")))
    if found is None:
        return Problem(f"hydra.{part}", f"names no {part}; hydra/{part}=basic is the usual one")
    try:
        inspect.signature(found).bind(**{key: value for key, value in options.items() if not key.startswith("_")})
    except TypeError as error:
        return Problem(f"hydra.{part}", str(error))
    return None
