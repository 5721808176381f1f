"""Programs for pickle's machine: calls, depths, values that share values, and tensors that lie about their storage."""

import pickle
import random
import struct
from collections.abc import Callable
from typing import Any

from support.malice_pieces import CALLS, NUMBERS, TEXTS, odd

DEPTHS = (50, 900, 10_000, 200_000, 1_000_000, 3_000_000)
HEAD, END = b"\x80\x02", b"."
STORAGES = ("FloatStorage", "DoubleStorage", "LongStorage", "ByteStorage", "BoolStorage", "HalfStorage", "QInt8Storage")
SIZES = ((), (1,), (0,), (10,), (4, 4), (10**12,), (2**40, 2**40), (-1,), (2**62, 2), (16, 3, 3, 3), (1,) * 70)


def plain(value: Any) -> bytes:
    """What puts a plain value on the stack."""
    try:
        return pickle.dumps(value, protocol=2)[2:-1]
    except (RecursionError, OverflowError):
        return b"N"


def call(draw: random.Random) -> bytes:
    """What calls something, in one of pickle's ways."""
    module, name, arguments = draw.choice(CALLS)
    place = f"{module}\n{name}\n".encode()
    inside = b"".join(map(plain, arguments))
    return draw.choice(
        (
            b"c" + place + plain(arguments) + b"R",
            b"c" + place + plain(arguments) + b"R",
            b"(" + inside + b"i" + place,
            b"(c" + place + inside + b"o",
            b"c" + place + plain(arguments) + b"\x81",
            plain(module) + plain(name) + b"\x93" + plain(arguments) + b"R",
            b"ctorch\nTensor\n)\x81" + b"c" + place + b"b",
            b"ccollections\nOrderedDict\n)R" + plain(name) + b"c" + place + plain(arguments) + b"R" + b"s",
            b"ctorch._tensor\n_rebuild_from_type_v2\n(c" + place + b"ctorch\nTensor\n" + plain(arguments) + b"}tR",
        )
    )


def deep(draw: random.Random) -> bytes:
    """One value in another in another."""
    depth, kind = draw.choice(DEPTHS), draw.choice(("tuple", "tuple", "list", "dict", "mark", "size"))
    if kind == "tuple":
        return b")" + b"\x85" * depth
    if kind == "list":
        return b"]" * depth + b"a" * (depth - 1)
    if kind == "dict":
        return b"}" + b"K\0}" * (depth - 1) + b"s" * (depth - 1)
    if kind == "mark":
        return b"(" * depth + b"t" * draw.choice((depth, depth - 1))
    return b"ctorch\nSize\n" * min(depth, 10_000) + b")" + b"\x85R" * min(depth, 10_000)


def shared(draw: random.Random) -> bytes:
    """A value that holds the same value twice that holds the same value twice: small, and endless to walk through."""
    depth = draw.choice((5, 18, 30, 60, 200))
    if draw.random() < 0.6:
        return b")q\0" + b"h\0\x86q\0" * depth
    again = draw.choice((b"]h\0ah\0aq\0", b"}K\0h\0sK\1h\0sq\0"))
    return b"(]q\0" + again * depth + b"t"  # what is left over is part of it as well


def large(draw: random.Random) -> bytes:
    """What torch itself calls, with an argument that takes all memory."""
    count = draw.choice((10**9, 10**11, 2**40, 2**62, -1))
    names = (
        "builtins\nbytearray",
        "torch\nFloatStorage",
        "torch.storage\nUntypedStorage",
        "torch\nTensor",
        "torch\nSize",
    )
    more = ("torch\nFloatTensor", "torch\nByteTensor", "collections\nCounter", "torch\ndevice", "builtins\nset")
    arguments = draw.choice(((count,), (count, count), ([count],), ("x" * 100,), (odd(draw),)))
    return b"c" + draw.choice((*names, *more)).encode() + b"\n" + plain(arguments) + b"R"


def tensor(draw: random.Random) -> bytes:
    """A tensor whose sizes, steps or storage are not as they should be."""
    function = draw.choice(
        (
            *(
                "_rebuild_tensor_v2",
                "_rebuild_tensor_v2",
                "_rebuild_tensor_v2",
                "_rebuild_tensor",
                "_rebuild_parameter",
            ),
            *(
                "_rebuild_sparse_tensor",
                "_rebuild_meta_tensor_no_storage",
                "_rebuild_nested_tensor",
                "_rebuild_qtensor",
            ),
            *("_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy", "_rebuild_tensor_v3"),
        )
    )
    size = draw.choice(SIZES)
    stride = draw.choice(((0,) * len(size), (1,) * len(size), (-1,) * len(size), (2**40,) * len(size), (1,), odd(draw)))
    start = draw.choice((0, 0, 0, 1, -1, 2**40, 2**63 - 1))
    rest = plain((start, size, stride, False, {}))[:-1] if draw.random() < 0.1 else None
    body = rest or b"".join(map(plain, (start, size, stride, False))) + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n" + function.encode() + b"\n(" + storage(draw) + body + b"tR"


def storage(draw: random.Random) -> bytes:
    """A reference to a storage that is there, is not, or is elsewhere."""
    kind = b"ctorch\n" + draw.choice(STORAGES).encode() + b"\n"
    key = draw.choice(("0", "1", "2", "99", "../data.pkl", "/etc/passwd", "../../../outside/precious.txt", odd(draw)))
    place = draw.choice(("cpu", "cpu", "cpu", "cuda:0", "cuda:99", "meta", "mps", "x\x1b[31m", odd(draw)))
    count = draw.choice((1, 0, 10, 432, 10**12, -1, 2**62, odd(draw)))
    if draw.random() < 0.1:
        return plain(draw.choice((("storage",), "storage", ("module", "x", "y", "z"), odd(draw)))) + b"Q"
    return b"(" + plain("storage") + kind + plain(key) + plain(place) + plain(count) + b"tQ"


def noise(draw: random.Random) -> bytes:
    """Orders in no order."""
    orders = (
        b"0",
        b"1",
        b"2",
        b"(",
        b"t",
        b"}",
        b"]",
        b"a",
        b"s",
        b"u",
        b"e",
        b"N",
        b"R",
        b"b",
        b"\x81",
        b"\x85",
        b"q\0",
    )
    more = (
        b"h\0",
        b"h\7",
        b"j\xff\xff\xff\xff",
        b"\x8a\xff",
        b"X\xff\xff\xff\xff",
        b"I1\n",
        b"G" + b"\xff" * 8,
        b"Q",
        b"P1\n",
    )
    return b"".join(draw.choices((*orders, *more), k=draw.choice((1, 5, 30, 300))))


def number(draw: random.Random) -> bytes:
    """A number of a length that is too much."""
    size = draw.choice((100, 10_000, 2_000_000))
    return draw.choice(
        (b"\x8b" + struct.pack("<i", size) + b"\x7f" * size, b"L" + b"9" * size + b"L\n", b"I" + b"7" * size + b"\n")
    )


MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    *(call, call, call, deep, deep, deep, shared, shared, shared, large, large, tensor, tensor, tensor, noise, number),
)


def program(draw: random.Random, genuine: bytes) -> bytes:
    """A whole pickle: an odd value alone, at a place of a checkpoint, or before a genuine one."""
    odd_value = draw.choice(MAKERS)(draw)
    key = draw.choice(
        ("model", "model", "state_dict", "training", "run", "best", "epoch", "files", "top1", "conv1.weight")
    )
    whole = draw.random()
    if whole < 0.2:
        return HEAD + odd_value + genuine[2:]
    if whole < 0.3:
        return HEAD + odd_value + END
    if whole < 0.5:
        return HEAD + b"}" + odd_value + plain(draw.choice((*TEXTS, *NUMBERS))) + b"s" + END
    if whole < 0.6:
        return HEAD + b"}" + plain("model") + b"}" + plain("x") + odd_value + b"ss" + END
    return genuine[:-1] + plain(key) + odd_value + b"s" + END
