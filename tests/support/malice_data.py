"""Data sets in npz files whose arrays are objects, lie about their size, or burst."""

import random
import struct
from typing import Any

import numpy as np

from support.malice_archive import MEGABYTE, Member, archive, bomb, deflated, spoiled
from support.malice_case import Case, Content, Folder, Link, Pipe, Same, Sparse
from support.malice_pickles import END, HEAD, program
from support.malice_pieces import damaged
from support.malice_store import SMALL, Store

SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "mnist": (28, 28, 1)}
COUNTS = {"train": 8, "test": 4}
DTYPES = (
    *("|u1", "|u1", "|u1", "|i1", "|b1", "<f4", "<f8", ">i8", "<i8", "<i8", "<u8", "|O", "|S8", "<U99999999", "|V0"),
    *("<M8[ns]", "<c16", "|S0", "<f2", "<g", "x", "", "|u999999999999", "(2,3)u1", "O4", "<i8,<i8"),
)
VALUES = (
    "-1",
    "1e3",
    "True",
    "None",
    "'8'",
    "2**70",
    "8.0",
    "99999999999999999999",
    "0",
    "[8]",
    "(8,)",
    "__import__('os')",
)


def case(draw: random.Random, store: Store) -> Case:
    """A data set, and a command that trains on it."""
    name = draw.choice(("cifar10", "cifar10", "cifar100", "mnist"))
    files = genuine(name)
    split = draw.choice(("train", "train", "test"))
    files[f"data/{name}/{split}.npz"] = _file(draw, _arrays(name, split))
    options = tuple(word for word in SMALL if not word.startswith(("dataset", "recipe.batch_size")))
    words = ("train", *options, f"dataset={name}", "data_dir=data", "recipe.batch_size=4", "init=scratch")
    return Case(f"{split}.npz of {name}", (*words, *draw.choice(((), (), ("--dry-run",)))), files)


def genuine(name: str) -> dict[str, Content]:
    """The files of a small data set as they should be."""
    return {f"data/{name}/{split}.npz": archive(_arrays(name, split)) for split in COUNTS}


def _arrays(name: str, split: str) -> list[Member]:
    count, shape = COUNTS[split], SHAPES[name]
    images = _npy("|u1", str((count, *shape)), bytes(count * int(np.prod(shape))))
    return [Member(b"images.npy", images), Member(b"labels.npy", _npy("<i8", f"({count},)", bytes(8 * count)))]


def _npy(dtype: str, shape: str, body: bytes, *, order: str = "False", version: tuple[int, int] = (1, 0)) -> bytes:
    """An array as numpy writes it; its head may say anything."""
    head = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}"
    return _with_head(head, body, version)


def _with_head(head: str, body: bytes, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    content = head.encode() + b" " * (-len(head) % 64) + b"\n"
    told = len(content) if length is None else length
    size = struct.pack("<H", min(told, 65535)) if version == (1, 0) else struct.pack("<I", told)
    return b"\x93NUMPY" + bytes(version) + size + content + body


def _file(draw: random.Random, arrays: list[Member]) -> Content:
    """What lies in the place of an npz file."""
    kind, where = draw.random(), draw.choice((0, 1, 1))
    if kind < 0.1:
        return draw.choice(
            (Link("/dev/zero"), Link("train.npz"), Link("../../canary"), Pipe(), Folder(), Sparse(b"PK", 2**36))
        )
    if kind < 0.15:
        return Same("../outside/precious.txt")
    if kind < 0.25:
        return damaged(draw, archive(arrays))
    if kind < 0.4:
        return spoiled(draw, arrays)
    if kind < 0.5:
        return archive(_doubled(draw, arrays))
    content = draw.choice((_other, _other, _lie, _head, _pickled))(draw, arrays[where].packed)
    changed = Member(arrays[where].name, content)
    if kind > 0.9:
        changed = Member(changed.name, deflated(content), 8, len(content))
    return archive([changed, *arrays[:where], *arrays[where + 1 :]])


def _doubled(draw: random.Random, arrays: list[Member]) -> list[Member]:
    """Names that numpy reads before, or besides, those that were looked at."""
    name = draw.choice((b"images", b"labels", b"images.npy", b"labels.npy", b"images.npy.npy"))
    large = _npy("|u1", f"({5000 * MEGABYTE},)", b"")
    extra = draw.choice(
        (
            *(Member(name, b""), Member(name, b"no array"), Member(name, HEAD + b"]" * 9 + END)),
            *(Member(name, _npy("<i8", "(8,)", struct.pack("<8q", *range(92, 100)))), bomb(draw, name, large)),
            *(Member(name, _npy("<f8", "(8,)", struct.pack("<8d", *[float("nan")] * 8))), bomb(draw, name)),
        )
    )
    return draw.choice(([extra, *arrays], [*arrays, extra]))


# One array


def _other(draw: random.Random, _: bytes) -> bytes:
    """A whole array of another kind."""
    values: tuple[Any, ...] = (
        *(
            np.full(8, np.nan),
            np.full(8, np.inf),
            np.arange(8) * 10**15,
            np.zeros((0,), np.int64),
            np.zeros((8, 1), np.int64),
        ),
        *(np.zeros((8, 32, 32, 3)), np.zeros((8, 3, 32, 32), np.uint8), np.zeros((8, 28, 28), np.uint8), np.array(3)),
        *(
            np.array(["a"] * 8),
            np.array([b"\x1b[31m"] * 8),
            np.zeros(8, "M8[s]"),
            np.zeros(8, complex),
            np.zeros(8, bool),
        ),
        *(np.full(8, 2**64 - 1, np.uint64), np.full(8, -1, np.int8), np.zeros(8, [("a", "i8")]), np.zeros((1,) * 30)),
    )
    array = np.asarray(draw.choice(values))
    return _npy(array.dtype.str, str(array.shape), array.tobytes())


def _lie(draw: random.Random, genuine: bytes) -> bytes:
    """A head that says of the same bytes that they are something else."""
    body = genuine[-draw.choice((64, 24576, 0)) :]
    counts = ", ".join(
        draw.choice(("8", "32", "3", "0", "-8", str(2**40), str(2**63), *VALUES)) for _ in range(draw.choice((1, 1, 4)))
    )
    shape = f"({counts},)" if draw.random() < 0.9 else draw.choice(VALUES)
    version = draw.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9), (0, 0)))
    return _npy(draw.choice(DTYPES), shape, body, order=draw.choice(("False", "True", "7", "None")), version=version)


def _head(draw: random.Random, genuine: bytes) -> bytes:
    """A head that is another expression, or no end of one."""
    start = "{'descr': '|u1', 'fortran_order': False, 'shape': (8,)"
    heads = (
        *(
            "(" * 9000,
            "[" * 60_000,
            "-" * 50_000 + "1",
            "{" * 90,
            "1" * 60_000,
            f"{start}, 'x': 1}}",
            start,
            "",
            "\0",
            "\x1b[31m",
        ),
        *("__import__('os').system('touch canary')", f"{{**{start}}}, 'shape': (8,)}}", 'f\'{open("canary", "w")}\''),
        *(
            f"{start[:-4]}{'(' * 150}8{',)' * 150}}}",
            f"{start[:-4]}(" + "1," * 20_000 + ")}",
            "{'descr': [('a', '|u1')] * 9}",
        ),
    )
    length = draw.choice((None, None, 0, 10, 65535, 2**31, 2**32 - 1))
    return _with_head(draw.choice(heads), genuine[-64:], draw.choice(((1, 0), (2, 0), (3, 0))), length)


def _pickled(draw: random.Random, genuine: bytes) -> bytes:
    """Objects, which numpy would unpickle."""
    pickled = program(draw, HEAD + b"}" + END)
    return pickled if draw.random() < 0.3 else _npy("|O", draw.choice(("(8,)", "()", "(1,)")), pickled)
