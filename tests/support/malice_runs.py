"""Ways in which the runs of a store can be wrong; each changes some files of a case."""

import json
import random
from collections.abc import Callable
from typing import Any

from support.malice_case import Content, Folder, Link, Pipe, Same, Sparse
from support.malice_pieces import ESCAPES, NUMBERS, TEXTS, as_json, damaged, odd, replaced
from support.malice_yaml import encoded, text

Files = dict[str, Content]
RECORDS = (
    *("summary.json", "summary.json", "status.json", "status.json", "env.json", "metrics.jsonl", "layers.jsonl"),
    *("config.yaml", "config.yaml"),
)
NAMES = (
    *(*RECORDS, "lock", "lock", "last.pt", "best.pt", "previous.pt", "error.txt", "events.out.tfevents.qexp"),
    *("status.json.tmp", "summary.json.tmp", "last.pt.tmp", "env.json.tmp", "config.yaml.tmp", "error.txt.tmp"),
)
STRANGERS = (
    *("notes.txt", ".hidden", "last.pt.bak", "lock.old", "summary.json~", "precious.pt", "-rf", "status.JSON"),
    *("x\udcff", "events", "best.pt.tmp.tmp"),
)
KEYS = (
    *("top1_hard", "float_top1", "difference", "unsettled", "epochs", "weight_kilobytes", "float_weight_kilobytes"),
    *("time_seconds", "time_images_per_second", "protocol", "width", "best_epoch", "quantizer", "key", "seed"),
    *("mean_weight_bits", "mean_activation_bits", "layers"),
    *("test_images", "state", "message", "epoch", "earlier", "versions", "git", "time_resumed_at_steps"),
)
LINKS = ("%soutside/precious.txt", "%soutside/folder", "%swork/canary", "%swork/precious.txt", "%swork/runs")


def _record(draw: random.Random, files: Files, run: str) -> None:
    """One of the small files says something else."""
    name = draw.choice(RECORDS)
    before = files.get(f"{run}/{name}")
    files[f"{run}/{name}"] = _said(draw, name, before if isinstance(before, bytes) else b"")


def _result(draw: random.Random, files: Files, run: str) -> None:
    """What was measured lacks something, or says it in other words."""
    before = files.get(f"{run}/summary.json")
    if not isinstance(before, bytes) or not before.startswith(b"{"):
        return
    tree = json.loads(before)
    for key in draw.sample(KEYS, draw.choice((1, 2, 5))):
        if draw.random() < 0.5:
            tree.pop(key, None)
        else:
            tree[key] = odd(draw)
    files[f"{run}/summary.json"] = as_json(tree).encode()


def _said(draw: random.Random, name: str, before: bytes) -> bytes:
    kind = draw.random()
    if kind < 0.15:
        return damaged(draw, before)
    if name == "config.yaml":
        return encoded(draw, text(draw)) if kind < 0.4 else _option(draw, before)
    if kind < 0.3:
        return draw.choice(TEXTS_OF_JSON)
    lines = before.splitlines() if name.endswith(".jsonl") else [before]
    return b"\n".join(_json(draw, line) for line in lines or [b"{}"]) + b"\n"


TEXTS_OF_JSON = (
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{}" * 9,
        b"\xff\xfe{}",
        b"\0" * 99,
    ),
    *(
        b'{"state": "done", "state": []}',
        b"9" * 5000,
        b'{"epoch": 1' + b"0" * 5000 + b"}",
        b" " * (17 * 2**20),
        b"\xef\xbb\xbf{}",
    ),
    *('{"state": "done"}'.encode("utf-16"), b'{"epoch": 1e999, "epochs": -1e999}', b'{"state": "\\ud800\\u001b[31m"}'),
)


def _json(draw: random.Random, line: bytes) -> bytes:
    """A line of JSON in which something is another value."""
    try:
        tree: Any = json.loads(line)
    except ValueError:
        tree = {}
    for _ in range(draw.choice((1, 1, 2, 8))):
        tree = replaced(draw, tree)
    if isinstance(tree, dict) and draw.random() < 0.3:
        tree = {
            **tree,
            draw.choice(KEYS): odd(draw),
        }
    return as_json(tree).encode()


def _option(draw: random.Random, before: bytes) -> bytes:
    """The record of a run with other words behind one of its keys."""
    lines = before.decode(errors="replace").splitlines() or ["seed: 0"]
    where = draw.randrange(len(lines))
    key = lines[where].partition(":")[0]
    value = draw.choice(
        (as_json(draw.choice((*TEXTS, *NUMBERS))), "os.system", "qexp.data.npz.Path", "", "null", "[]", "{}", "&a [*a]")
    )
    lines[where : where + draw.choice((0, 1, 1))] = [f"{key}: {value}"]
    return ("\n".join(lines) + "\n").encode(errors="surrogatepass")


def _gone(draw: random.Random, files: Files, run: str) -> None:
    for name in draw.sample(NAMES, draw.choice((1, 1, 3))):
        files.pop(f"{run}/{name}", None)


def _place(draw: random.Random, files: Files, run: str) -> None:
    """No regular file in the place of one, or one that is somebody else's as well."""
    path = f"{run}/{draw.choice(NAMES)}"
    up = "../" * (run.count("/") + 2)
    links = (
        *(Link(link % up) for link in LINKS),
        Link("/dev/zero"),
        Link("/dev/full"),
        Link(path.rpartition("/")[2]),
        Link("config.yaml"),
    )
    others = (
        Same("../outside/precious.txt"),
        Same("precious.txt"),
        Pipe(),
        Folder(),
        Sparse(b"{}", 2**34),
        Sparse(b"", 2**20),
    )
    content = draw.choice((*links, *others, *others))
    files[path] = content
    if content == Folder() and draw.random() < 0.7:
        del files[path]
        files[f"{path}/precious.txt"] = b"precious\n"


def _stranger(draw: random.Random, files: Files, run: str) -> None:
    """What is nothing of qexp's."""
    up = "../" * (run.count("/") + 2)
    content = draw.choice((b"precious\n", b"precious\n", Link(f"{up}outside/folder"), Folder(), Pipe()))
    files[f"{run}/{draw.choice((*STRANGERS, draw.choice(ESCAPES).replace(chr(0), '')))}"] = content


def _renamed(draw: random.Random, files: Files, run: str) -> None:
    """The run once more, or instead, under a name that is none, or that is another run's."""
    parts = run.split("/")
    escape = draw.choice(ESCAPES).replace("\0", "")
    where = draw.choice((1, 2, 3, 4, 4, 4))
    parts[where] = draw.choice(
        (escape, f"{parts[where]}{escape}", "x" * 200, ".x", "-m", "s1-abcdefgh", "s0-", "a\udcff", "fp-w32a32", "=x")
    )
    for path in [path for path in files if path.startswith(f"{run}/")]:
        files["/".join(parts) + path.removeprefix(run)] = files[path]


def _elsewhere(draw: random.Random, files: Files, run: str) -> None:
    """A folder of the store that is a link to one outside, with runs in it."""
    depth = draw.choice((2, 3, 4, 5, 5))
    folder = "/".join(run.split("/")[:depth])
    if any(isinstance(content, Link) and folder.startswith(path) for path, content in files.items()):
        return
    for path in [path for path in files if path.startswith(f"{folder}/")]:
        files[f"../outside/store{path.removeprefix(folder)}"] = files.pop(path)
    files["../outside/store/precious.txt"] = b"precious\n"
    files[folder] = Link("../" * depth + "outside/store")


def _beside(draw: random.Random, files: Files, run: str) -> None:
    """Things in the store that are no runs."""
    places: tuple[tuple[str, Content], ...] = (
        *(
            ("runs/.jobs", Link("../../outside/folder")),
            ("runs/.jobs", Pipe()),
            ("runs/.jobs/x/precious.txt", b"precious\n"),
        ),
        *(
            ("runs/notes.txt", b"precious\n"),
            ("runs/x/y", Pipe()),
            ("runs/a/b/c/d", Link("d")),
            ("runs/a/b/c/status.json", b"{}"),
        ),
        *(("runs/a/b/c/d/status.json", Link("/dev/zero")), ("runs/a/b/c-w2a2/s1-abcdefgh/status.json", Pipe())),
        *(
            ("runs/a/b/c-w2a2/s1-abcdefgh/config.yaml", b""),
            ("runs/\x1b[31m/b/c-w2a2/s1-abcdefgh/config.yaml", b"seed: 1\n"),
        ),
    )
    path, content = draw.choice(places)
    files[path] = content


CHANGES: tuple[Callable[[random.Random, Files, str], None], ...] = (
    *(
        _record,
        _record,
        _record,
        _record,
        _record,
        _gone,
        _place,
        _place,
        _place,
        _stranger,
        _renamed,
        _elsewhere,
        _beside,
    ),
)
