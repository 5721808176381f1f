"""What `key=value` on a command line means for a value that a run has."""

from typing import Any


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
