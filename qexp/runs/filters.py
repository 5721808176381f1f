"""What `key=value` on a command line means for a value that a run has, and what is said where no run has it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qexp.utils.errors import UsageError
from qexp.utils.text import printable, suggest

if TYPE_CHECKING:
    from qexp.runs.query import Entry

NOTHING = object()  # no value, not even null


def found_at(tree: Any, key: str) -> Any:
    """Return what stands at a dotted key, NOTHING where nothing does."""
    for part in key.split("."):
        tree = tree.get(part, NOTHING) if isinstance(tree, Mapping) else NOTHING
    return tree


def dotted_keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a tree; a section that has a name is one of them."""
    for key, value in tree.items():
        if not isinstance(value, Mapping) or "name" in value:
            yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{prefix}{key}.")


def fits(value: Any, text: str) -> bool:
    """Whether a value is what `text` says, or one of several that it names."""
    return _is(value, text) or any(_is(value, one) for one in text.split(","))


def _is(value: Any, text: str) -> bool:
    if value is None or isinstance(value, bool):
        return text.lower() == {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    if isinstance(value, list):
        return text.replace(" ", "") == f"[{','.join(map(str, value))}]"
    return str(value) == text


def unknown_key(root: Path, known: Iterable[str], key: str) -> UsageError:
    """Return the error for a key that no run of a store has, with the nearest of those that they have."""
    keys = list(dict.fromkeys(known))
    nested = [other for other in keys if other.endswith(f".{key}") or other.startswith(f"{key}.")]
    hint = f" (did you mean '{nested[0]}'?)" if nested else suggest(key, keys)
    return UsageError(f"no run in {root} has '{printable(key)}'{hint}")


def check_keys(root: Path, every: Sequence["Entry"], keys: Iterable[str]) -> None:
    """Raise UsageError for a key that none of the runs has."""
    for key in keys:
        if every and not any(entry.values(key) for entry in every):
            raise unknown_key(root, [key for entry in every for key in entry.known_keys()], key)


def unknown_text(root: Path, names: Iterable[str], text: str, also: Iterable[str] = ()) -> UsageError:
    """Return the error for a word that is in the path of no run: it is more likely misspelled than meant.

    Args:
        root: the store.
        names: of its runs, their paths in it.
        text: the word.
        also: other words that may have been meant.
    """
    parts = {part for name in names for folder in name.split("/") for part in (folder, *folder.split("-"))}
    hint = suggest(text, [*also, *sorted(parts)])
    return UsageError(f"'{printable(text)}': no run in {root} has that in its path{hint}")
