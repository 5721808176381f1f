"""What a run has under a name that a user types: a word of the listings, an option, or what was measured."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from qexp.runs.filters import unknown_key
from qexp.runs.query import STATES, Entry
from qexp.runs.variation import NAMES, OptionReader, Variation, brief, shown, variation
from qexp.utils.errors import UsageError
from qexp.utils.text import is_number, printable, suggest

ABSENT = object()  # where a run has nothing under a name; null is None

# Words for what has a longer name in summary.json.
SHORT = {
    **{"hash": "key", "top-1": "top1_hard", "top1": "top1_hard", "float": "float_top1", "time": "time_seconds"},
    **{"gap": "quantizer_gap", "kB": "weight_kilobytes"},
}
# Words for what is in no file under that name.
WORDS = ("key", "run", "state", "dataset", "model", "quantizer", "bits", "seed", "size")
CONFIGURED_BITS = "configured bits"  # by which runs are grouped, whatever widths their layers learned


class ListedRun:
    """A run of a listing, with the options that its configuration tells.

    Args:
        entry: of the store.
        reader: takes configurations apart.
        state: how a sweep found it; None for its state in the store.
    """

    def __init__(self, entry: Entry, reader: OptionReader, state: str | None = None):
        self.entry = entry
        self.options = reader.options(entry.config)
        self._state = state

    @property
    def state(self) -> str:
        """How it ended, or how a sweep found it."""
        return self._state or self.entry.state

    @cached_property
    def _words(self) -> dict[str, Any]:
        entry = self.entry
        method, _, bits = entry.method.rpartition("-")
        seed = int(entry.seed) if entry.seed.isdigit() else entry.seed
        width = entry.bits.label if entry.bits else bits.upper()
        named = (entry.key, str(entry.path), self.state, entry.dataset, entry.model, method or bits, width, seed)
        return dict(zip(WORDS, named, strict=False)) | {CONFIGURED_BITS: bits.upper() + "+" * bool(entry.bits)}

    def value(self, name: str) -> Any:
        """Return what the run has under a name, ABSENT where there is nothing; results are those of a finished run."""
        name = SHORT.get(name, name)
        if name in WORDS or name == CONFIGURED_BITS:
            return self.entry.bytes if name == "size" else self._words[name]
        if name in self.options:
            return self.options[name]
        found = _inside(self.entry.config, name)
        return _inside(self.entry.result, name) if found is ABSENT else found


def _inside(tree: Mapping[str, Any], name: str) -> Any:
    """Return the value at a dotted key, ABSENT where there is none; a section that has a name stands for it."""
    node: Any = tree
    for part in name.split("."):
        node = node.get(part, ABSENT) if isinstance(node, Mapping) else ABSENT
    if isinstance(node, Mapping):
        return node.get("name", ABSENT)
    return node


def listed_runs(entries: Sequence[Entry]) -> list[ListedRun]:
    """Return entries of the store as runs of a listing."""
    reader = OptionReader()
    return [ListedRun(entry, reader) for entry in entries]


def what_varies(runs: Sequence[ListedRun]) -> Variation:
    """Return what varies among the runs of a listing, as far as their configurations tell."""
    return variation([run.options for run in runs])


def check_names(root: Path, every: Sequence[Entry], names: Sequence[str], flag: str) -> None:
    """Raise UsageError for a name under which no run of the store has anything.

    Args:
        root: the store.
        every: run of it.
        names: that were asked for.
        flag: that asked for them, `columns` for --columns.
    """
    runs: list[ListedRun] = []
    for name in names:
        if name in WORDS or name in SHORT or name in NAMES:
            continue
        runs = runs or listed_runs(every)
        if every and all(run.value(name) is ABSENT for run in runs):
            known = [*(word for word in SHORT if word != "top1"), *WORDS]  # of two spellings, that of the list
            known += [key for run in runs for key in run.entry.known_keys()]
            where = "qexp runs --help and qexp runs show RUN --json have the names"
            raise UsageError(f"--{flag}: {unknown_key(root, known, name)}; {where}")


def named_states(text: str | None) -> tuple[str, ...]:
    """Return the states that --state names, none without it; raise UsageError for a word that is no state."""
    states = tuple(text.split(",")) if text is not None else ()
    for state in states:
        if state not in STATES:
            raise UsageError(f"--state {state}: must be {', '.join(STATES)}{suggest(state, STATES)}")
    return states


def as_text(value: Any) -> str:
    """Return a value for people, on its line; `-` where there is none."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"
    return "-" if value is ABSENT else printable(brief(value))


def as_texts(values: Sequence[Any]) -> list[str]:
    """Return values for people: in six digits, or in all of them where two that differ would look the same."""
    found = [as_text(value) for value in values]
    exact = ["-" if value is ABSENT else printable(shown(value)) for value in values]
    return found if len(set(found)) == len(set(exact)) else exact


def as_data(value: Any) -> Any:
    """Return a value for programs: a number stays one, a list stays a list; None where there is none."""
    return None if value is ABSENT else list(value) if isinstance(value, tuple) else value


def in_order(runs: Sequence[ListedRun], name: str, *, falling: bool) -> list[ListedRun]:
    """Return runs by what they have under a name: numbers by size, then words; at the end those that have nothing."""
    found = [(run.value(name), run) for run in runs]
    numbers = [(value, run) for value, run in found if is_number(value)]
    nothing = [run for value, run in found if value is ABSENT or value is None]
    words = [(shown(value), run) for value, run in found if not is_number(value) and value not in (ABSENT, None)]
    ordered = [run for part in (numbers, words) for _, run in sorted(part, key=lambda one: one[0], reverse=falling)]
    return [*ordered, *nothing]
