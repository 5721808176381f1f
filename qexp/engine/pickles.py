"""What a pickle would build, found out without building it: how deep, and how large with all that it shares.

A hundred bytes are enough for a tuple that holds the same tuple twice, forty times over: it takes no memory, and for
ever to hash, to compare or to print. A million tuples in each other end a process when they are freed.
"""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DEEPEST = 200
MOST_VALUES = 5_000_000  # what is shared counts as often as it occurs
MOST_STEPS = 1_000_000  # opcodes; the pickle of a network has a hundred for each tensor
_PICKLES = 5  # one after another in the files of torch before 1.6

Node = list  # a value, as the list of those that it holds

_MARK: Node = []
_INTO = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": 0, "SETITEMS": 0, "ADDITEMS": 0}  # values; 0: to the mark
_GET, _PUT = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")


def too_much(path: Path) -> str | None:
    """Return why the pickles in a checkpoint are more than can be meant, None where they are not; raises OSError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".pkl")]
            found = (_too_much_of(archive.open(name)) for name in names)  # type: ignore[arg-type]
            return next((reason for reason in found if reason), None)
    with path.open("rb") as file:
        return next((reason for _ in range(_PICKLES) if (reason := _too_much_of(file))), None)


def _too_much_of(stream: BinaryIO) -> str | None:
    """Return why one pickle is too much, as far as it is one: torch says of the rest that it is none."""
    nodes: list[Node] = []
    try:
        for node in _nodes(stream):
            nodes.append(node)
            if len(nodes) > MOST_STEPS:
                return f"takes more than {MOST_STEPS:,} steps"
    except (ValueError, IndexError, KeyError, TypeError, OverflowError):  # no pickle, or no more of it
        pass
    return _too_much_of_graph(nodes)


def _nodes(stream: BinaryIO) -> Iterator[Node]:
    """Yield for each opcode the value that it leaves on top of the stack; values grow while others are added."""
    stack: list[Node] = []
    memo: dict[int, Node] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in _GET:
            stack.append(memo[int(argument)])  # type: ignore[arg-type]
        elif name in _PUT:
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name in _INTO:
            held = [stack.pop() for _ in range(_INTO[name])] if _INTO[name] else _to_the_mark(stack)
            stack[-1].extend(held)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            before = [kind.name for kind in opcode.stack_before]
            held = _to_the_mark(stack) if "mark" in before else [stack.pop() for _ in before]
            stack.extend(list(held) for _ in opcode.stack_after)
        yield stack[-1] if stack else _MARK


def _to_the_mark(stack: list[Node]) -> list[Node]:
    held = []
    while (top := stack.pop()) is not _MARK:
        held.append(top)
    return held


def _too_much_of_graph(nodes: list[Node]) -> str | None:
    """Return why values are too deep or too large, or hold themselves; each is looked at once, without recursion."""
    known: dict[int, tuple[int, int]] = {}  # of finished nodes: depth, values
    open_: set[int] = set()
    pending = [(node, False) for node in reversed(nodes)]
    while pending:
        node, is_done = pending.pop()
        if id(node) in known:
            continue
        if not is_done:
            if id(node) in open_:
                return "a value that holds itself"
            open_.add(id(node))
            pending.append((node, True))
            pending.extend((held, False) for held in node if id(held) not in known)
            continue
        open_.discard(id(node))
        inside = [known[id(held)] for held in node]
        depth, values = 1 + max((deep for deep, _ in inside), default=0), 1 + sum(count for _, count in inside)
        if depth > DEEPEST:
            return f"values are nested deeper than {DEEPEST} levels"
        if values > MOST_VALUES:
            return f"more than {MOST_VALUES:,} values, those that are shared counted as often as they occur"
        known[id(node)] = depth, values
    return None
