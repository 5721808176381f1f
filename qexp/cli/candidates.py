"""What the last word of a command line may become; without torch and Hydra, because a shell waits for it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import yaml

from qexp.config.option_files import Option, read_options
from qexp.config.places import choices, conf_dir, store_root
from qexp.report.catalogue import CHOICES, FIGURES

GROUPS = ("dataset", "model", "quantizer", "recipe", "protocol")
KINDS = ("method", "model", "dataset", "table")
SHELLS = ("bash", "zsh", "fish")
NAMES = (
    "hash",
    "run",
    "state",
    "dataset",
    "model",
    "quantizer",
    "bits",
    "seed",
    "size",
    "top-1",
    "float",
    "gap",
    "kB",
    "time",
)
STATES = ("running", "interrupted", "done", "failed", "diverged", "damaged")

# Flags of each command, with the words that may follow one; an empty list is for what cannot be listed.
FLAGS: Mapping[str, Mapping[str, Sequence[str] | None]] = {
    "train": {
        **dict.fromkeys(("--help", "--multirun", "-m", "--dry-run", "--debug", "--resolve", "--hydra-help")),
        "--cfg": ("job", "hydra", "all"),
        "--config-dir": (),
        "--config-name": (),
        "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    },
    "eval": {**dict.fromkeys(("--help", "--firmness", "--json", "--debug")), "--config-dir": ()},
    "table": {
        **dict.fromkeys(("--help", "--run", "--dry-run", "--debug")),
        **dict.fromkeys(("--rows", "--seeds", "--config-dir"), ()),
        "--protocol": ("paper", "short", "smoke"),
        "--format": ("text", "md", "csv"),
    },
    "runs": {
        **dict.fromkeys(("--help", "--json", "--watch", "--yes", "--all", "--debug")),
        "--state": STATES,
        "--format": ("text", "md", "csv", "json", "latex"),
        **dict.fromkeys(("--sort", "--columns", "--group"), NAMES),
        **dict.fromkeys(("--runs-dir", "--links"), ()),
    },
    "report": {
        **dict.fromkeys(("--help", "--debug")),
        "--state": STATES,
        "--protocol": ("paper", "short", "smoke"),
        **dict.fromkeys(("--to", "--runs-dir", "--rows", "--seeds", "--config-dir"), ()),
    },
    "plot": {
        **dict.fromkeys(("--help", "--debug")),
        **dict.fromkeys(("--to", "--runs-dir", "--data-dir", "--config-dir"), ()),
    },
    "models": {**dict.fromkeys(("--help", "--coverage", "--debug")), "--config-dir": ()},
    "new": {**dict.fromkeys(("--help", "--debug")), "--to": ()},
    "doctor": dict.fromkeys(("--help", "--debug")),
    "completion": dict.fromkeys(("--help",)),
}
_ACTIONS = ("list", "show", "compare", "tensorboard", "rm")
_OF_EVAL = ("dataset", "dataset.", "device", "threads", "workers", "data_dir", "runs_dir", "recipe.eval_batch_size")
_BITS = tuple(map(str, (*range(1, 9), 32)))


def candidates(line: str) -> list[str]:
    """Return the words that the last one of a line may become, in order; the line ends where the cursor stands."""
    *before, word = re.split(r"\s+", line.lstrip())
    if "'" in word or '"' in word:
        return []
    at = next((at for at, one in enumerate(before) if PurePath(one).name.startswith("qexp")), 0)
    found = _words(before[at + 1 :], word)
    return sorted({one for one in found if one.startswith(word)}, key=lambda one: (one.startswith("-"), one))


def _words(before: Sequence[str], word: str) -> Iterable[str]:
    if not before:
        return [*FLAGS, "--help", "--version"]
    command, *rest = before
    if command not in FLAGS:
        return []
    following = FLAGS[command].get(rest[-1]) if rest else None
    if following is not None:
        kept = word[: word.rfind(",") + 1]
        return [f"{kept}{one}" for one in following]
    if word.startswith("-"):
        return FLAGS[command]
    return _OF_COMMANDS[command](rest, word)


def _of_train(rest: Sequence[str], word: str) -> Iterable[str]:
    chosen = _chosen(rest)
    key, sign, value = word.partition("=")
    if not sign:
        return _keys(chosen, word)
    kept = f"{key}={value[: value.rfind(',') + 1]}"
    return [f"{kept}{one}" for one in _values(chosen, key, rest)]


def _of_eval(rest: Sequence[str], word: str) -> Iterable[str]:
    if word.startswith(("checkpoint=", "format=")):
        return ["checkpoint=last", "checkpoint=best", "format=daq"]
    named = [one for one in _of_train(rest, word) if one.startswith(_OF_EVAL)]
    has_run = any("=" not in one and not one.startswith("-") for one in rest)
    return [*named, "checkpoint=", "format=", *([] if has_run else _hashes(rest))]


def _of_table(rest: Sequence[str], word: str) -> Iterable[str]:
    folder = conf_dir() / "paper"
    tables = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return [*tables, *_of_train(rest, word)]


def _of_runs(rest: Sequence[str], word: str) -> Iterable[str]:
    actions = [] if any(not one.startswith("-") for one in rest) else _ACTIONS
    pairs = [] if rest[:1] in (["show"], ["compare"]) else _of_train(rest, word)
    return [*actions, *_hashes(rest), *pairs]


def _of_report(rest: Sequence[str], word: str) -> Iterable[str]:
    return [*_of_table(rest, word), *_hashes(rest)]


def _of_plot(rest: Sequence[str], word: str) -> Iterable[str]:
    words = [one for one in rest if not one.startswith("-")]
    if not words:
        return [one.name for one in FIGURES]
    asked = next((one for one in FIGURES if one.name == words[0]), None)
    if asked is None:
        return []
    options = [f"{key}=" for key in asked.options]
    key, sign, _ = word.partition("=")
    if sign and key in asked.options and key in CHOICES:
        return [f"{key}={value}" for value in CHOICES[key]]
    if asked.takes == "METHOD":
        return [*choices("quantizer"), *options]
    return options if asked.takes == "nothing" else [*options, *_hashes(rest), *_of_train(rest, word)]


_OF_COMMANDS: Mapping[str, Callable[[Sequence[str], str], Iterable[str]]] = {
    "train": _of_train,
    "eval": _of_eval,
    "table": _of_table,
    "runs": _of_runs,
    "report": _of_report,
    "plot": _of_plot,
    "models": lambda rest, word: (*choices("model"), *_of_train(rest, word)),
    "new": lambda rest, word: () if rest else KINDS,
    "doctor": lambda rest, word: (),
    "completion": lambda rest, word: () if rest else SHELLS,
}


def _hashes(rest: Sequence[str]) -> list[str]:
    """Return the hashes of the runs in the store that a command names."""
    named = [one.partition("=")[2] for one in rest if one.startswith(("runs_dir=", "--runs-dir="))]
    named += [rest[at + 1] for at, one in enumerate(rest[:-1]) if one == "--runs-dir"]
    found = store_root(named[-1] if named else None).glob("[!.]*/*/*/s*-*")
    return [path.name.partition("-")[2] for path in found]


# Options


def _chosen(rest: Sequence[str]) -> dict[str, str]:
    """Return group -> choice: what a command names, else the default."""
    text = (conf_dir() / "train.yaml").read_text()
    listed = re.findall(r"^  - (\w+): (\S+)", text.partition("defaults:")[2].partition("\n\n")[0], re.MULTILINE)
    named = dict(word.split("=", 1) for word in rest if word.partition("=")[0] in GROUPS and "=" in word)
    chosen = {**dict(listed), **{group: value.split(",")[0] for group, value in named.items()}}
    return {group: chosen["dataset"] if name == "${dataset}" else name for group, name in chosen.items()}


def _options(chosen: Mapping[str, str], group: str) -> list[Option]:
    """Return the options of a group's chosen file under their dotted keys; of the primary file for an empty group."""
    path = conf_dir() / group / f"{chosen[group]}.yaml" if group else conf_dir() / "train.yaml"
    if group and chosen[group] not in choices(group):
        return []
    prefix = f"{group}." if group else ""
    return [Option(f"{prefix}{one.key}", one.value, one.comment) for one in read_options(path, whole=True)]


def _keys(chosen: Mapping[str, str], word: str) -> list[str]:
    """Return groups and options as `key=`; behind a dot those of that section, before one the sections as `key.`."""
    section = word.partition(".")[0]
    if "." in word:
        group = section if section in GROUPS else ""
        return [f"{one.key}=" for one in _options(chosen, group) if one.value]
    own = _options(chosen, "")
    plain = [f"{one.key}=" if one.value else f"{one.key}." for one in own if "." not in one.key]
    return [*plain, *(f"{group}=" for group in GROUPS), *(f"{group}." for group in GROUPS if group != "protocol")]


def _values(chosen: Mapping[str, str], key: str, rest: Sequence[str]) -> list[str]:
    """Return what a group or an option may be set to, as far as its file tells."""
    if key in GROUPS:
        own = [rest[at + 1] for at, one in enumerate(rest[:-1]) if one == "--config-dir"]
        own += [one.partition("=")[2] for one in rest if one.startswith("--config-dir=")]
        return [*choices(key), *(path.stem for folder in own for path in (Path(folder) / key).glob("*.yaml"))]
    if key == "layer_bits":
        return _hashes(rest)
    if key.endswith("bits"):
        return [*_BITS]
    section = key.partition(".")[0]
    group = section if section in GROUPS and "." in key else ""
    found = next((one for one in _options(chosen, group) if one.key == key), None)
    return [] if found is None else said_values(found)


def said_values(option: Option) -> list[str]:
    """Return the values that an option's line names: the default, both truths, `a | b (why) | c` of the comment."""
    value = yaml.safe_load(option.value) if option.value and "${" not in option.value else None
    if isinstance(value, bool):
        return ["true", "false"]
    parts = option.comment.split(" | ")
    words = [option.value] if re.fullmatch(r"[\w.:-]+", option.value) else []
    if len(parts) > 1:
        first = re.search(r"([\w:.]+)(?: \([^)]*\))?$", parts[0])
        others = [re.match(r"(\w[\w.]*(?::\d)?)(?: \([^)]*\))?(?=$|[;,:])", part) for part in parts[1:]]
        words += [match[1] for match in (first, *others) if match]
    return list(dict.fromkeys(words))
