"""Words that every floor says: lines that any terminal shows, plurals, percentages, names of methods and networks."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

# Control characters, line ends, writing directions, halves of letters: not in a line, a path or a YAML file.
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

NOT_CONVERGED = "the hard accuracy is of a network that training did not converge to"


def one_line(text: str, most: int = 200) -> str:
    """Return `text` on one line that any terminal can show, and cut to `most` characters."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def printable(text: str) -> str:
    """Return text that stays on its line and can be encoded: what others wrote may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known word, or an empty string."""
    close = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.55)
    return f" (did you mean '{close[0]}'?)" if close else ""


def close_words(word: str, known: Iterable[str]) -> str:
    """Return ` (near it: a, b, c)` for the nearest known words, or an empty string."""
    close = difflib.get_close_matches(word[:100], list(known), n=5, cutoff=0.55)
    return f" (near it: {', '.join(close)})" if close else ""


def few(names: Iterable[str], most: int = 4) -> str:
    """Return the first names, and how many more there are: `a, b and 3 more`."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def differing_codes(found: Mapping[str, int], source: object) -> str:
    """Return `5 codes of weights not as recorded in last.pt (conv1: 2, conv2: 3)`."""
    layers = few([f"{name}: {number:,}" for name, number in found.items()])
    return f"{plural(sum(found.values()), 'code')} of weights not as recorded in {source} ({layers})"


def in_lines(line: str, columns: int, indent: int) -> str:
    """Return a line in lines of at most so many letters, those behind the first indented.

    It is folded between words: a path that is longer than a line stays whole, and can be copied.
    """
    if len(line) <= columns:
        return line
    space = " " * (indent if columns >= 2 * indent else 2)
    return textwrap.fill(line, columns, subsequent_indent=space, break_long_words=False, break_on_hyphens=False)


def plural(count: int, noun: str) -> str:
    """Return `1 run` or `3 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def percent(value: float | None, *, signed: bool = False) -> str:
    """Return a percentage or a difference with two digits, or that it was not run."""
    if value is None:
        return "not run"
    return f"{value:+.2f}" if signed else f"{value:.2f} %"


def size(count: int) -> str:
    """Return a number of bytes as `12.3 MB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def time_span(seconds: float) -> str:
    """Return a time in the unit that suits it: `40 s`, `25 min`, `5.2 h`, `3.4 days`, `120 days`, `6.8 years`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    count, unit = (days, "days") if days < 365 else (days / 365.25, "years")
    if count < 10:
        return f"{count:.1f} {unit}"
    exact = count if days < 60 else float(f"{count:.2g}")  # an estimate that long is good for two digits
    return f"{exact:,.0f} {unit}"


def method_label(quantizer: str, weight_bits: Any, activation_bits: Any, is_mixed: object = False) -> str:
    """Return `daq W2A2`, or `daq W2A2+` where some layers have bits of their own (layer_bits)."""
    return f"{quantizer} W{weight_bits}A{activation_bits}{'+' * bool(is_mixed)}"


def model_label(name: str, width: Any) -> str:
    """Return `resnet18 x0.25`: a network of another width is another network. A width of 1, or none, is not told."""
    is_scaled = isinstance(width, int | float) and not isinstance(width, bool) and width != 1
    return f"{name} x{width:g}" if is_scaled else name


def unconverged_warning(names: Iterable[str]) -> str:
    """Return the warning for a run some of whose quantizers ended above their lowest bit-width."""
    listed = list(names)
    some = ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
    return f"{plural(len(listed), 'quantizer')} did not end at the lowest bit-width ({some}); {NOT_CONVERGED}"


def kind_of_value(value: Any) -> str:
    """Return `nothing`, or `an object of package.module.Class`."""
    return "nothing" if value is None else f"an object of {type(value).__module__}.{type(value).__qualname__}"


def is_number(value: Any) -> bool:
    """Whether a value out of a file of others is a number that can be computed with and shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
