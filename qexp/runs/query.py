"""What is in the run store, as far as it can be read: finding, comparing and removing runs.

Whatever is missing, damaged or not of qexp in a run directory reads as nothing.
"""

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from qexp import runs
from qexp.config.config import recorded_config
from qexp.config.identity import float_parent, run_key, with_younger_options
from qexp.config.places import WORDS, find_run
from qexp.config.schema import Invalid
from qexp.runs.filters import NOTHING, check_keys, dotted_keys, fits, found_at, unknown_text
from qexp.runs.measured_bits import MeasuredBits, measured_bits
from qexp.runs.stored_trees import StoredTrees
from qexp.utils.errors import QexpError, UsageError
from qexp.utils.files import bytes_of, found_below, is_file, is_folder, read_tail
from qexp.utils.text import few, is_number, method_label, model_label

DAMAGED = "damaged"  # without a state that can be read, or done without a result
STATES = (*get_args(runs.State), DAMAGED)

_MARKS = ("status.json", "config.yaml")  # a run directory has one of them
_RUN = re.compile(r"s(\d+)-(.+)", re.DOTALL)
_METHOD = re.compile(r".+-w(\d+)a(\d+)")


class Entry:
    """One run directory; its files are read when they are first asked for."""

    def __init__(self, path: Path, trees: StoredTrees | None = None):
        self.path, self._trees = path, trees or StoredTrees()
        self.dataset, self.model, self.method, self.run = ("", "", "", *path.absolute().parts)[-4:]
        match = _RUN.fullmatch(self.run)
        self.seed, self.key = match.groups() if match else ("-", self.run)
        self.status = runs.read_json(path / "status.json") or {}

    @property
    def name(self) -> str:
        """The path in the store."""
        return "/".join((self.dataset, self.model, self.method, self.run))

    @property
    def label(self) -> str:
        """`daq W2A2`, as far as the path tells; the result, else the configuration, tells of layers with other bits."""
        name, _, bits = self.method.rpartition("-")
        if self.bits:
            return self.bits.named(name)
        found = re.fullmatch(r"w(\d+)a(\d+)", bits)
        return method_label(name, found[1], found[2], self.config.get("layer_bits")) if found else self.method

    @cached_property
    def bits(self) -> MeasuredBits | None:
        """Those of its layers, where its result tells that they need not all be as configured."""
        return measured_bits(self.result)

    @property
    def model_label(self) -> str:
        """`resnet18 x0.25`."""
        return model_label(self.model, self.summary.get("width") if self.summary else runs.model_width(self.path))

    @cached_property
    def state(self) -> str:
        """One of STATES."""
        try:
            state = runs.state_of(self.path)
        except OSError:
            return DAMAGED
        return DAMAGED if state not in STATES or (state == "done" and not self.summary) else str(state)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What was measured."""
        return runs.read_summary(self.path) or {}

    @property
    def result(self) -> dict[str, Any]:
        """The summary, unless the state says that the run has no result yet."""
        return self.summary if self.state in ("done", DAMAGED) else {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """On what it was measured."""
        return runs.read_json(self.path / "env.json") or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        try:
            return self._trees.load(self.path / "config.yaml")
        except Exception:  # of the file, of YAML, of OmegaConf
            return {}

    @property
    def disagreement(self) -> str | None:
        """In what the directory's name and its records differ; None where they agree, as far as they can be read."""
        if not _RUN.fullmatch(self.run) or not _METHOD.fullmatch(self.method):
            return "its directory has no name of a run"
        if (key := self.summary.get("key", self.key)) != self.key:
            return f"its summary.json is of {key}"
        told, found = runs.folder_names(self.config), None
        with suppress(Invalid, LookupError, TypeError, ValueError):
            config = recorded_config(with_younger_options(self.config))
            found = config.key if config.init in WORDS else None  # a file may be gone, or have changed
        ours = (self.dataset, self.model, self.method, f"s{self.seed}")
        if found in (None, self.key) and all(word in (None, own) for own, word in zip(ours, told, strict=True)):
            return None
        return f"its config.yaml is of {'/'.join(word or '?' for word in told)}{f'-{found}' if found else ''}"

    @cached_property
    def last_epoch(self) -> dict[str, Any]:
        """The last whole line of metrics.jsonl."""
        with suppress(OSError):
            for line in reversed(read_tail(self.path / "metrics.jsonl").splitlines()):
                with suppress(ValueError, RecursionError):
                    record = json.loads(line)
                    return record if isinstance(record, dict) else {}
        return {}

    @property
    def progress(self) -> str | None:
        """Such as `7/20`: the epochs that are trained and all of them."""
        epoch, epochs = (number(self.last_epoch, key) for key in ("epoch", "epochs"))
        return None if epoch is None or epochs is None else f"{epoch:.0f}/{epochs:.0f}"

    def values(self, key: str) -> list[Any]:
        """Return what a filter may compare with at a dotted key: of the configuration, and of the summary."""
        found, node = [self.state] if key == "state" else [], found_at(self.config, key)
        if node is NOTHING and self.config:
            with suppress(AttributeError, TypeError, ValueError):  # of a damaged configuration
                node = found_at(with_younger_options(self.config), key)
        node = node.get("name", NOTHING) if isinstance(node, Mapping) else node  # a section also stands for its name
        found += [] if node is NOTHING else [node]
        measured = self.summary.get(key, NOTHING)
        return found if measured is NOTHING or isinstance(measured, dict | list) else [*found, measured]

    def known_keys(self) -> Iterator[str]:
        """Yield the keys that have values."""
        plain = [key for key, value in self.summary.items() if not isinstance(value, dict | list)]
        yield from ("state", *dotted_keys(self.config), *plain)

    @cached_property
    def files(self) -> dict[str, int]:
        """Name -> bytes of what lies in the directory; folders with all that is in them."""
        with suppress(OSError):
            return {entry.name: bytes_of(entry) for entry in sorted(self.path.iterdir())}
        return {}

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(self.files.values())


def number(tree: Mapping[str, Any], key: str) -> float | None:
    """Return the number at `key`, None where there is none."""
    value = tree.get(key)
    return value if is_number(value) else None


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory, if it lies where one does."""
    return any(is_file(path / name) for name in _MARKS)


def run_paths(root: Path) -> list[Path]:
    """Return the directories of all runs in the store, in order of their names; raise UsageError if it is closed."""
    if is_folder(root) and not os.access(root, os.R_OK | os.X_OK):
        raise UsageError(f"cannot read {root}: Permission denied")
    found = {mark.parent for name in _MARKS for mark in found_below(root, f"[!.]*/*/*/*/{name}")}
    return [path for path in sorted(found) if is_run(path)]


def entries(root: Path) -> list[Entry]:
    """Return all runs in the store, in order of their names."""
    trees = StoredTrees()
    return [Entry(path, trees) for path in run_paths(root)]


def find(root: Path, text: str) -> Entry:
    """Return the run that `text` names: its directory, or the beginning of its hash.

    Raises:
        UsageError: no run, or several.
    """
    if text and is_run(Path(text)):
        return Entry(Path(text))
    found = [entry for entry in entries(root) if entry.key.startswith(text)] if text else []
    return found[0] if len(found) == 1 else Entry(find_run(root, text))


def select(
    root: Path,
    words: Sequence[str],
    states: Sequence[str] = (),
    *,
    also: Sequence[str] = (),
    every: Sequence[Entry] | None = None,
) -> tuple[list[Entry], Sequence[Entry]]:
    """Return the runs that fit all filters, and all runs of the store.

    Args:
        root: the store.
        words: a run directory or a whole hash names that run, and several of them name several; `key=value` compares
            with the configuration and the summary, `key=one,other` with several values; anything else has to be part
            of the path in the store.
        states: any of these; empty for all.
        also: words that a word that fits no run may be a misspelling of.
        every: run of the store, where they have been read; None reads them.

    Raises:
        UsageError: a key that no run has, or a word that is in the path of none.
    """
    every = entries(root) if every is None else every
    named, by_place, texts, pairs = set[Path](), dict[str, list[Entry]](), [], []
    for word in words:
        if own := _named(every, word, by_place):
            named |= {entry.path for entry in own}
        elif "=" in word:
            pairs.append(word.partition("=")[::2])
        else:
            texts.append(word.removeprefix(f"{root}/"))
    check_keys(root, every, [key for key, _ in pairs])
    for text in texts:
        if every and not any(text in entry.name for entry in every):
            raise unknown_text(root, [entry.name for entry in every], text, also)
    found = [
        entry
        for entry in every
        if (not named or entry.path in named)
        and all(text in entry.name for text in texts)
        and (not states or entry.state in states)
        and all(any(fits(value, text) for value in entry.values(key)) for key, text in pairs)
    ]
    return found, every


def _named(every: Sequence[Entry], word: str, by_place: dict[str, list[Entry]]) -> list[Entry]:
    """Return the runs that a word is the directory or the hash of; of all, places are looked up at the first need."""
    if not is_run(Path(word)):
        return [entry for entry in every if entry.key == word]
    if not by_place:
        for entry in every:
            by_place.setdefault(os.path.realpath(entry.path), []).append(entry)
    return by_place.get(os.path.realpath(word), [])


def trained_from(parents: Iterable[Entry], others: Iterable[Entry]) -> list[Entry]:
    """Return those of `others` whose float baseline (init=fp) is one of `parents`."""
    places = {(entry.dataset, entry.model, entry.seed) for entry in parents if entry.method.startswith("fp-")}
    keys = {entry.key for entry in parents}
    found = []
    for entry in others:
        if (entry.dataset, entry.model, entry.seed) in places and entry.config.get("init") == "fp":
            with suppress(LookupError, TypeError, AttributeError, ValueError):  # a configuration that lacks something
                found += [entry] if run_key(float_parent(entry.config)) in keys else []
    return found


def remove_run(root: Path, entry: Entry) -> None:
    """Remove a run directory, and the folders above it in the store that are empty then.

    The lock is held meanwhile, so that nobody starts the run. Summary and status go first: a removal that is killed
    leaves nothing that looks done, but something that is still listed, or at the very end a folder with the lock alone,
    which the next start of that run takes over.

    Raises:
        QexpError: another process holds it, it is not what was listed or not qexp's, or it cannot be removed.
    """
    path = entry.path
    if disagreement := entry.disagreement:
        raise QexpError(f"stays, because {disagreement}: {path}")
    if os.path.realpath(path) != os.path.join(os.path.realpath(root), entry.name):
        raise UsageError(f"stays, because a link leads to it: {path}")
    with runs.claim(path):
        if is_run(path) and (runs.read_json(path / "status.json") or {}) != entry.status:
            raise QexpError(f"stays, because it was trained meanwhile: {path}")
        if others := runs.strangers(path):
            raise QexpError(f"stays, because it holds {few(others)}, which qexp did not make: {path}")
        try:
            for name in ("summary.json", "status.json"):
                (path / name).unlink(missing_ok=True)
            runs.clear(path, keep=("config.yaml",))
            for name in ("config.yaml", "lock", "lock.held"):
                (path / name).unlink(missing_ok=True)
            path.rmdir()
        except OSError as error:
            raise QexpError(f"cannot remove {path}: {os.strerror(error.errno or errno.EIO)}") from error
    with suppress(OSError):  # not empty
        for folder in path.parents[:3]:
            folder.rmdir()
