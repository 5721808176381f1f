"""Many config.yaml files of a store, quickly: what they have in common is parsed once."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qexp.config.yaml_files import DEEPEST, MOST_BYTES, load_yaml, parse_text
from qexp.utils.files import read_regular

_KEY = re.compile(r"([A-Za-z_][\w.-]*):(?: (.+))?")
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # which YAML takes for something else
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,15})(?:\.\d+)?")
_REACHES_FURTHER = re.compile(r"\$\{|(?:^|[\s\[{,:-])[&*]", re.MULTILINE)  # references, anchors and aliases
_NEXT_KEY = re.compile(r"\n(?=[^ \n-])")  # a line at the margin that is no item of a list


class _Unusual(Exception):
    """A text that is not as qexp writes it."""


class StoredTrees:
    """Reads files as `load_yaml` does, in a hundredth of its time where they are as qexp wrote them.

    Such a text is taken apart at its indentation, down to single values and lists; each of these is parsed by YAML the
    first time that it occurs, and the runs of a sweep share nearly all of them. Any other text goes to `load_yaml`.
    """

    def __init__(self) -> None:
        self._parsed: dict[str, Any] = {}
        self._parts: dict[str, dict[str, Any]] = {}

    def load(self, path: Path) -> dict[str, Any]:
        """Return the tree in a file; raise as `load_yaml`."""
        try:
            text = read_regular(path, MOST_BYTES).decode()
            found: dict[str, Any] = {}
            for part in _NEXT_KEY.split(text.removesuffix("\n")):
                ((key, value),) = self._part(part).items()
                if key in found:
                    raise _Unusual
                found[key] = value
            return found
        except (_Unusual, ValueError):
            return load_yaml(path)

    def _part(self, text: str) -> dict[str, Any]:
        """Return the mapping of one key at the margin and what belongs to it."""
        if text not in self._parts:
            if _REACHES_FURTHER.search(text):
                raise _Unusual
            self._parts[text] = self._mapping(text.split("\n"), 0)
        return self._parts[text]

    def _mapping(self, lines: Sequence[str], depth: int) -> dict[str, Any]:
        """Return the mapping that lines spell, the indentation of `depth` levels taken off in mind."""
        if depth > DEEPEST:
            raise _Unusual
        found: dict[str, Any] = {}
        margin, inner = "  " * depth, "  " * (depth + 1)
        starts = [at for at, line in enumerate(lines) if line[len(margin) :][:1] not in " -"]
        if starts[:1] != [0] or not all(line.startswith(margin) and line for line in lines):
            raise _Unusual
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            body, match = lines[start + 1 : end], _KEY.fullmatch(lines[start][len(margin) :])
            if match is None or match[1] in found or match[1].lower() in _WORDS or (match[2] and body):
                raise _Unusual
            if body and all(line.startswith(inner) for line in body):
                section = f"{depth}\n" + "\n".join(body)
                if section not in self._parsed:
                    self._parsed[section] = self._mapping(body, depth + 1)
                found[match[1]] = self._parsed[section]
            elif all(line.startswith(f"{margin}- ") for line in body):
                found[match[1]] = self._value(match[2], [line[len(margin) :] for line in body])
            else:
                raise _Unusual
        return found

    def _value(self, text: str | None, more: Sequence[str]) -> Any:
        """Return the value behind a key, or the list whose items stand in the lines `more`."""
        if text is not None and not more and _NUMBER.fullmatch(text):
            return float(text) if "." in text else int(text)
        chunk = "\n".join([f"x: {text or ''}", *more])
        if chunk not in self._parsed:
            try:
                (value,) = parse_text(chunk).values()
            except Exception as error:  # of YAML and OmegaConf; `load_yaml` will say it of the whole file
                raise _Unusual from error
            self._parsed[chunk] = value
        return self._parsed[chunk]
