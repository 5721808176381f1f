"""What malicious inputs are put together from: calls that leave a trace, odd values and texts, and damage to bytes."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

# (module, name, arguments): each touches the canary, or sets the variable of its name.
CALLS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("os", "system", ("touch canary",)),
    ("posix", "system", ("touch canary",)),
    ("os", "popen", ("touch canary",)),
    ("os", "mkdir", ("canary",)),
    ("os", "environ.__setitem__", ("CANARY", "1")),
    ("os", "environ.setdefault", ("CANARY", "1")),
    ("builtins", "eval", ("open('canary', 'w')",)),
    ("builtins", "exec", ("open('canary', 'w')",)),
    ("builtins", "open", ("canary", "w")),
    ("io", "open", ("canary", "w")),
    ("subprocess", "check_call", (["touch", "canary"],)),
    ("subprocess", "Popen", (["touch", "canary"],)),
    ("shutil", "copy", ("intruder.py", "canary")),
    ("runpy", "run_path", ("intruder.py",)),
    ("importlib", "import_module", ("intruder",)),
    ("intruder", "run", ()),
    ("intruder", "Run", ()),
    ("torch", "save", ({}, "canary")),
    ("numpy", "save", ("canary", 0)),
    ("logging", "FileHandler", ("canary",)),
    ("logging", "os.system", ("touch canary",)),
    ("qexp.runs", "os.system", ("touch canary",)),
    ("qexp.quantizers.daq", "torch.save", ({}, "canary")),
    ("hydra.utils", "instantiate", ({"_target_": "os.system", "_args_": ["touch canary"]},)),
    ("numpy.testing._private.utils", "runstring", ("open('canary', 'w')", {})),
)

ESCAPES = (
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\nqexp: all is well", "\x7f\x08\x08", "\x00"),
    *("\u202egnp.exe", "\u2028", "\u2066x", "\x85"),
)
PATHS = (
    *("canary", "../canary", "../outside/precious.txt", "precious.txt", "/dev/zero", "/dev/stdin", "/etc/passwd", "."),
    *("..", "../outside", "../outside/folder", "~", "~root", "~nobody9", "/proc/self/environ", "a/../../outside/x", ""),
)
TEXTS = (
    *(
        *ESCAPES,
        *PATHS,
        "x" * 300,
        "y" * 70_000,
        "%s%n",
        "${seed}",
        "${oc.env:HOME}",
        "é",
        "数据",
        "\U0001f600",
        "\ud800",
    ),
    *("nan", "null", "true", "1e999", "0x10", "[", "{", "'", '"', "fp", "done", "running", "[red]x[/red]", ":boom:"),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 8, 32, 99, 10**9, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1e-300, 1e300),
    *(float("nan"), float("inf"), float("-inf"), True, False),
)


def odd(draw: random.Random, depth: int = 0) -> Any:
    """Some value of plain data, as a rule not the one that is expected."""
    kind = draw.random()
    if kind < 0.15:
        return None
    if kind < 0.45:
        return draw.choice(NUMBERS)
    if kind < 0.75:
        return draw.choice(TEXTS)
    if kind < 0.8:
        return nested(draw, draw.choice((30, 60, 200)))
    if depth > 2:
        return []
    count = draw.choice((0, 1, 2, 3))
    if kind < 0.9:
        return [odd(draw, depth + 1) for _ in range(count)]
    return {draw.choice((*TEXTS, "name", "top1", "epoch", "state")): odd(draw, depth + 1) for _ in range(count)}


def nested(draw: random.Random, depth: int) -> Any:
    """Lists and groups in each other."""
    value: Any = draw.choice(NUMBERS)
    for _ in range(depth):
        value = [value] if draw.random() < 0.5 else {"a": value}
    return value


def as_json(value: Any) -> str:
    """The value as Python writes it, with NaN, with halves of letters as escapes, and with integers of any length."""
    try:
        return json.dumps(value)
    except (RecursionError, ValueError):
        return "9" * 5000


def replaced(draw: random.Random, tree: Any) -> Any:
    """A tree of plain data in which something is another value, has gone, or was added."""
    if isinstance(tree, dict) and tree and draw.random() < 0.9:
        key, way = draw.choice(sorted(tree, key=str)), draw.random()
        if way < 0.25:
            return {name: value for name, value in tree.items() if name != key}
        if way < 0.35:
            return {**tree, draw.choice(TEXTS): odd(draw)}
        return {**tree, key: replaced(draw, tree[key])}
    return odd(draw)


# Bytes


def damaged(draw: random.Random, content: bytes) -> bytes:
    """The bytes, damaged once or several times."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = draw.choice(DAMAGES)(draw, content)
    return content


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _flipped(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 8, 100)) if content else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _without(draw: random.Random, content: bytes) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.choice((1, 4, 100)) :]


def _with(draw: random.Random, content: bytes) -> bytes:
    start = draw.randrange(len(content) + 1)
    extra = draw.choice((b"\0", b"\xff" * 8, b"\x1b[31m", b"PK\x03\x04", b"\xef\xbb\xbf", draw.randbytes(50)))
    return content[:start] + extra + content[start:]


def _twice(draw: random.Random, content: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:]


def _other(draw: random.Random, content: bytes) -> bytes:
    return draw.choice((b"", b"\0" * 1000, b"hello\n", draw.randbytes(200), content[::-1]))


DAMAGES: Sequence[Callable[[random.Random, bytes], bytes]] = (_cut, _flipped, _flipped, _without, _with, _twice, _other)
