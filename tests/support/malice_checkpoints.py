"""Checkpoints that would run, lie, burst or nest, wherever qexp reads one."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from support.malice_archive import Member, archive, spoiled
from support.malice_case import Case, Content, Folder, Link, Pipe, Same, Sparse
from support.malice_pickles import program
from support.malice_pieces import TEXTS, as_json, damaged, nested, odd, replaced
from support.malice_store import SMALL, Store

FILES = (
    "file.pt",
    "file.pt",
    "file.safetensors",
    "file.safetensors",
    "file",
    "a b.pt",
    "file\x1b[31m.pt",
    "f\udcff.pt",
)
DTYPES = ("F32", "F32", "F32", "F16", "BF16", "F64", "I64", "I8", "BOOL", "F8_E4M3", "C64", "X9", "", 3, None)
Place = tuple[str, tuple[str, ...], set[str]]  # path, words of a command that reads it, runs that may change


def case(draw: random.Random, store: Store) -> Case:
    """A checkpoint and a command that reads it."""
    path, words, own = draw.choice((_start, _start, _published, _evaluated, _resumed, _resumed, _parent))(draw, store)
    genuine = store.of(store.stopped if path.startswith(store.stopped) else store.done)["last.pt"]
    is_other = path.endswith(".safetensors") and draw.random() < 0.9
    files = {**store.files, path: safetensors(draw) if is_other else checkpoint(draw, genuine)}
    if draw.random() < 0.5:  # else a run goes on from the state before
        files.pop(f"{store.stopped}/previous.pt", None)
    return Case(f"{path.rpartition('/')[2]!a} for {words[0]}", words, files, frozenset(own))


def _start(draw: random.Random, store: Store) -> Place:
    name = draw.choice(FILES)
    return name, ("train", *SMALL, f"init='{name}'", *draw.choice(((), ("--dry-run",)))), set()


def _published(draw: random.Random, store: Store) -> Place:
    name = draw.choice(FILES)
    return name, ("eval", f"checkpoint={name}", "format=daq", "device=cpu"), set()


def _evaluated(draw: random.Random, store: Store) -> Place:
    run, name = draw.choice((store.done, store.stopped)), draw.choice(("last", "best"))
    return f"{run}/{name}.pt", ("eval", run, f"checkpoint={name}", *draw.choice(((), ("--json",)))), set()


def _resumed(draw: random.Random, store: Store) -> Place:
    name = draw.choice(("last.pt", "last.pt", "last.pt", "previous.pt", "best.pt", "best-previous.pt", "last.pt.tmp"))
    return f"{store.stopped}/{name}", store.words[store.stopped], {store.stopped}


def _parent(draw: random.Random, store: Store) -> Place:
    return f"{store.parent}/last.pt", (*store.words[store.done], "overwrite=true"), {store.parent, store.done}


# What lies there


def checkpoint(draw: random.Random, genuine: bytes) -> Content:
    """A file of torch's, or what is there instead."""
    kind = draw.random()
    if kind < 0.1:
        return instead(draw, genuine)
    if kind < 0.2:
        return damaged(draw, genuine)
    if kind < 0.35:
        return spoiled(draw, members(genuine))
    if kind < 0.55:
        return saved(draw, genuine)
    parts = members(genuine)
    pickled = program(draw, next(part.packed for part in parts if part.name.endswith(b"data.pkl")))
    if kind < 0.65:
        return pickled  # as torch saved once, without an archive
    return archive([Member(part.name, pickled) if part.name.endswith(b"data.pkl") else part for part in parts])


def instead(draw: random.Random, genuine: bytes) -> Content:
    """No regular file, or one that is somebody else's."""
    links = (
        "../outside/precious.txt",
        "canary",
        "/dev/zero",
        "/dev/full",
        "last.pt",
        ".",
        "../../../../../precious.txt",
    )
    return draw.choice(
        (
            *(Link(draw.choice(links)), Link(draw.choice(links)), Same("../outside/precious.txt"), Pipe(), Folder()),
            *(Sparse(genuine, 2**36), Sparse(b"", 2**34), Sparse(b"\x80\x02", 2**33)),
        )
    )


def members(content: bytes) -> list[Member]:
    """The members of an archive that torch wrote."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return [Member(part.filename.encode(), file.read(part)) for part in file.infolist()]


def saved(draw: random.Random, genuine: bytes) -> bytes:
    """A checkpoint that torch saved, with another value somewhere in it."""
    content = torch.load(io.BytesIO(genuine), weights_only=True)
    for _ in range(draw.choice((1, 1, 2, 5))):
        content = _strange(draw, content) if draw.random() < 0.5 else replaced(draw, content)
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
    except (RecursionError, RuntimeError):  # too deep for Python itself
        return damaged(draw, genuine)
    return buffer.getvalue()


def _strange(draw: random.Random, content: Any) -> Any:
    """The checkpoint with another tensor in its network, or another name for one."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict) or not content["model"]:
        return content
    model = dict(content["model"])
    key = draw.choice(sorted(model, key=str))
    value = model.pop(key)
    if not isinstance(value, Tensor) or draw.random() < 0.3:
        return {**content, "model": {**model, draw.choice((*TEXTS, 3, None, (1, 2))): value}}
    return {**content, "model": {**model, key: draw.choice(TENSORS)(value)}}


TENSORS: tuple[Callable[[Tensor], Any], ...] = (
    lambda value: torch.full_like(value, torch.nan) if value.is_floating_point() else value - 2**60,
    lambda value: torch.full_like(value, torch.inf) if value.is_floating_point() else value + 2**62,
    lambda value: torch.zeros(1).expand(10**6, 10**6),
    lambda value: torch.zeros(1).expand(*([1] * 60)),
    lambda value: torch.zeros(0, 10**12),
    lambda value: value.to(torch.complex64),
    lambda value: value.to(torch.int8),
    lambda value: value.to(torch.float8_e4m3fn),
    lambda value: value.to("meta"),
    lambda value: value.float().to_sparse(),
    lambda value: torch.nn.Parameter(value.float() * 1e38),
    lambda value: value.flatten()[:1],
    lambda value: [value],
)


def safetensors(draw: random.Random) -> bytes:
    """A file of safetensors whose header says what is not so."""
    tensors: dict[str, Any] = {}
    for number in range(draw.choice((1, 2, 2000))):
        name = draw.choice((*TEXTS, "conv1.weight", "bn1.weight", "linear.bias", "__metadata__", f"x{number}"))
        shape = draw.choice(
            ([10], [1, 10], [], [0], [2**62, 4], [-1], [10**12], ["10"], [10.0], None, nested(draw, 40))
        )
        ends = draw.choice(([0, 40], [0, 2**40], [40, 0], [-1, 40], [0], [0, 0], [2**64, 2**64], None))
        tensors[name] = {"dtype": draw.choice(DTYPES), "shape": shape, "data_offsets": ends}
        if draw.random() < 0.1:
            tensors[name] = odd(draw)
    header = draw.choice((as_json(tensors), as_json(tensors), "[" * 200_000, "{" * 50, json.dumps(tensors, indent=9)))
    content = header.encode()
    told = draw.choice((len(content), len(content), len(content), 2**63, 2**40, 100_000_000, 0, 1))
    return struct.pack("<Q", told) + content + bytes(draw.choice((40, 0, 39, 41)))
