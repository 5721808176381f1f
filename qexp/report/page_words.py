"""The command that repeats runs, made from their configurations, and checked: composed again it gives the same hash."""

import re
import shlex
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from qexp.config.compose import Composer, composing
from qexp.report.page_content import Commands
from qexp.runs.filters import found_at
from qexp.runs.run_values import ListedRun
from qexp.runs.variation import OptionReader, is_told, is_usual
from qexp.utils.errors import QexpError
from qexp.utils.text import few, plural

MOST_CHECKED = 24  # runs whose commands are composed again: another method or network takes half a second
_PLAIN = re.compile(r"[\w./:+~-]+", re.ASCII)
_NOT_SAID = ("dataset.digest",)  # of the data, which the command finds again

Words = dict[str, str]  # key -> value, as a command line has them


def words_of(run: ListedRun) -> Words:
    """Return the options that `qexp train` needs to repeat a run, as far as its configuration tells."""
    options = run.options
    found: dict[str, object] = {key: options[key] for key in ("dataset", "model", "quantizer") if key in options}
    if not is_usual(options, "model.width"):
        found["model.width"] = options["model.width"]
    bits = options.get("weight_bits"), options.get("activation_bits")
    if options.get("quantizer") != "fp" and None not in bits:
        found |= {"bits": bits[0]} if bits[0] == bits[1] else {"weight_bits": bits[0], "activation_bits": bits[1]}
    if options.get("protocol", "paper") != "paper":
        found["protocol"] = options["protocol"]
    for key, value in options.items():
        if key not in _NOT_SAID and is_told(options, key):
            is_name = "." in key and isinstance(found_at(run.entry.config, key), Mapping)  # of a section
            found[f"{key}.name" if is_name else key] = value
    if (threads := run.entry.config.get("threads")) not in (0, None):
        found["threads"] = threads  # the last bits of a result hang on it
    return {key: spelled(value) for key, value in (found | {"seed": options.get("seed", run.entry.seed)}).items()}


def spelled(value: object) -> str:
    """Return a value as Hydra reads it, which takes what is between quotes for one text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(spelled, value))}]"
    text = str(value)
    if _PLAIN.fullmatch(text) and not text.endswith(":"):
        return text
    # Only in front of a quote, and at the end, a backslash is more than itself.
    quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)
    return f"'{quoted}'"


def command_of(runs: Sequence[Words], flags: Sequence[str] = ()) -> str:
    """Return the one command of runs that are all combinations of some values, with flags in front of these."""
    keys = list(dict.fromkeys(key for run in runs for key in run))
    values = {key: list(dict.fromkeys(run[key] for run in runs)) for key in keys}
    head = ["qexp", "train", *flags, *(["-m"] if len(runs) > 1 else [])]
    return shlex.join([*head, *(f"{key}={','.join(own)}" for key, own in values.items())])


def in_products(runs: Sequence[Words]) -> list[list[Words]]:
    """Return runs in groups of which each has all combinations of its values, so that a sweep makes just these."""
    unique = [dict(pairs) for pairs in dict.fromkeys(tuple(run.items()) for run in runs)]
    alike: dict[frozenset[str], list[Words]] = {}
    for run in unique:
        alike.setdefault(frozenset(run), []).append(run)
    return [group for own in alike.values() for group in _products(own)]


def _products(runs: Sequence[Words]) -> list[list[Words]]:
    """Return the same of runs that have the same options: all of them, or apart by the option of the fewest values."""
    values = {key: list(dict.fromkeys(run[key] for run in runs)) for key in runs[0]}
    several = {key: own for key, own in values.items() if len(own) > 1}
    if prod(map(len, several.values())) == len(runs):
        return [list(runs)]
    split = min(several, key=lambda key: len(several[key]))
    parts = [[run for run in runs if run[split] == value] for value in several[split]]
    return [group for part in parts for group in _products(part)]


def repeating(runs: Sequence[ListedRun], root: Path, config_dir: str | None = None) -> Commands:
    """Return the commands that repeat runs, and whether composing them again gives the same hashes.

    Args:
        runs: of the page.
        root: their store, where `init` may name another run.
        config_dir: the user's own folder of options, None for none.
    """
    known = [run for run in runs if run.options]
    words = [words_of(run) for run in known]
    notes = _checked(known, words, root, config_dir) if words else []
    flags = [] if config_dir is None else ["--config-dir", config_dir]
    commands = []
    for group in in_products(words) if words else []:
        commands.append((plural(len(group), "run") if len(group) > 1 else "", command_of(group, flags)))
    if lost := len(runs) - len(known):
        notes.append(f"Without a configuration that can be read, and without a command: {plural(lost, 'run')}.")
    return Commands(commands, notes)


def _checked(runs: Sequence[ListedRun], words: list[Words], root: Path, config_dir: str | None) -> list[str]:
    """Add the words that are missing of the first runs, and return what was found of their commands."""
    wrong: dict[str, str] = {}
    count = min(len(runs), MOST_CHECKED)
    try:
        with composing(config_dir) as composer:
            for at, run in enumerate(runs[:count]):
                words[at], why = _completed(composer, run, words[at], root)
                wrong |= {run.entry.key: why} if why else {}
    except QexpError as error:
        return [f"The command was not checked: {error}."]
    notes = []
    if right := count - len(wrong):
        all_of = "Checked" if right == len(runs) else f"Checked for {plural(right, 'run')}"
        notes.append(f"{all_of}: composed again, the command gives the hash of the run.")
    if wrong:
        reason = next(iter(wrong.values()))
        notes.append(f"Not the same hash, or not composed: {few(wrong)} ({reason}).")
    if more := len(runs) - count:
        notes.append(f"Not checked: {plural(more, 'more run')}.")
    return notes


def _completed(composer: Composer, run: ListedRun, words: Words, root: Path) -> tuple[Words, str]:
    """Return the words that give a run's hash, and nothing; or the words as they are, and why they do not.

    What a recipe or data set of the user's own says besides is known only when it is composed: what the run has
    otherwise is added then.
    """
    key, theirs, problem = _composed(composer, words, root)
    if problem or key == run.entry.key:
        return words, problem
    ours = run.options
    other = {name: spelled(ours[name]) for name in ours if name in theirs and ours[name] != theirs[name]}
    more = {**words, **{name: value for name, value in other.items() if name not in _NOT_SAID}}
    return (more, "") if _composed(composer, more, root)[0] == run.entry.key else (words, f"it gives {key}")


def _composed(composer: Composer, words: Words, root: Path) -> tuple[str, Mapping[str, object], str]:
    """Return the hash and the options that words give; or why they give none."""
    try:
        job = composer.job((*(f"{key}={value}" for key, value in words.items()), f"runs_dir={spelled(str(root))}"))
    except QexpError as error:
        return "", {}, str(error)
    if job.config is None:
        return "", {}, str(job.problems[0])
    return job.config.key, OptionReader().options(job.config.tree), ""
