"""Folders of --config-dir: files that order, refer, nest, and name each other without end, and the commands on them."""

import random
from collections.abc import Mapping

from support.malice_case import Case, Content, Folder, Link, Pipe, Sparse
from support.malice_pieces import PATHS, damaged
from support.malice_store import SMALL, Store
from support.malice_yaml import encoded, reference, text

# Where a file can lie, and the words that choose it.
PRIMARY, EXPERIMENT = "mine.yaml", "experiment/mine.yaml"
CHOICES = {
    PRIMARY: ("--config-name=mine",),
    EXPERIMENT: ("+experiment=mine",),
    "quantizer/mine.yaml": ("quantizer=mine",),
    "recipe/mine.yaml": ("recipe=mine",),
    "dataset/mine.yaml": ("dataset=mine",),
    "hydra/job_logging/mine.yaml": ("hydra/job_logging=mine",),
    "hydra/launcher/mine.yaml": ("hydra/launcher=mine", "-m", "seed=1,2"),
    "hydra/sweeper/mine.yaml": ("hydra/sweeper=mine", "-m", "seed=1,2"),
    "hydra/callbacks/mine.yaml": ("hydra/callbacks=mine",),
    "hydra/help/mine.yaml": ("hydra/help=mine", "--help"),
    "train.yaml": (),
}
ENDS = (
    *(("--dry-run",), ("--dry-run",), ("--dry-run",), (), (), (), ("--cfg=job",), ("--cfg=all",), ("--cfg=hydra",)),
    *(("--help",), ("--hydra-help",), ("--info=all",), ("--info=defaults-tree",), ("--info=searchpath",)),
    *(("-m", "seed=1,2", "--dry-run"), ("-m", "seed=1,2"), ("--cfg=job", "--resolve")),
)


def case(draw: random.Random, store: Store) -> Case:
    """A folder, and a command on it."""
    path = draw.choice((PRIMARY, PRIMARY, PRIMARY, EXPERIMENT, EXPERIMENT, *CHOICES))
    document = _document(draw, path)
    files: dict[str, Content] = {f"conf/{path}": damaged(draw, document) if draw.random() < 0.1 else document}
    kind = draw.random()
    if kind < 0.25:
        files |= _lists(draw, path)
    elif kind < 0.32:
        files[f"conf/{path}"] = draw.choice(_in_its_place(draw))
    flags = (*CHOICES[path], *draw.choice(ENDS))
    folder = draw.choice(("conf", "conf", "conf", "./conf/../conf", "conf/"))
    words = ("train", f"--config-dir={folder}", *SMALL, "init=scratch", *dict.fromkeys(flags))
    return Case(f"{path} of --config-dir", words, files, environment={"SECRET": "canary"})


def _document(draw: random.Random, path: str) -> bytes:
    head = {PRIMARY: "defaults: [train, _self_]\n", EXPERIMENT: "# @package _global_\n"}.get(path, "")
    return encoded(draw, (head if draw.random() < 0.9 else "") + text(draw))


def _in_its_place(draw: random.Random) -> tuple[Content, ...]:
    """What may lie where a file is looked for."""
    link = Link(draw.choice((*PATHS, "mine.yaml", "../../outside/precious.txt", "/dev/zero", "/dev/full")) or "x")
    return (link, link, Pipe(), Folder(), Sparse(b"seed: 3\n", 2**33), Sparse(b"", 2**21))


# Lists of defaults


def _lists(draw: random.Random, path: str) -> Mapping[str, Content]:
    """Files that name files."""
    return draw.choice((_doubling, _chain, *[_odd_entries] * 4))(draw, path)


def _doubling(draw: random.Random, path: str) -> Mapping[str, Content]:
    """Each file names the next one twice, into two places: 2**depth of them."""
    depth = draw.choice((3, 12, 24, 40))
    entries = draw.choice(
        ("/a@.l: x%d, /a@.r: x%d", "/a@.l: x%d, /a@.r: x%d", "/a: x%d, /a@b: x%d", "/a: x%d, /a: x%d")
    )
    files: dict[str, Content] = {f"conf/a/x{depth}.yaml": b"seed: 1\n"}
    for number in range(depth):
        listed = ", ".join(f"{{{one}}}" for one in (entries % (number + 1, number + 1)).split(", "))
        files[f"conf/a/x{number}.yaml"] = f"defaults: [{listed}]\nseed: {number}\n".encode()
    before = "train, " if path == PRIMARY else ""
    return {**files, f"conf/{path}": f"defaults: [{before}{{/a@z: x0}}, _self_]\n".encode()}


def _chain(draw: random.Random, path: str) -> Mapping[str, Content]:
    """Each file names the next one, and the last perhaps the first."""
    length = draw.choice((5, 60, 400))
    files = {f"conf/a/x{number}.yaml": f"defaults: [x{number + 1}]\n".encode() for number in range(length)}
    last = "defaults: [x0]\n" if draw.random() < 0.6 else "seed: 1\n"
    return {**files, f"conf/a/x{length}.yaml": last.encode(), f"conf/{path}": b"defaults: [train, {/a: x0}]\n"}


def _odd_entries(draw: random.Random, path: str) -> Mapping[str, Content]:
    """A list of what is no name of a file, or of one that is outside."""
    places = [place for place in PATHS if place and "~" not in place]
    entries = (
        *("train", "mine", "_self_", "_self_", "optional x: y", "override hydra/launcher: joblib", "quantizer: null"),
        *("override /quantizer: daq", "override hydra/job_logging: none", "'../outside/precious'", "/mine@_global_: x"),
        *(
            "{quantizer: [daq, ste]}",
            "quantizer@a.b._target_: daq",
            "optional: ",
            "[train]",
            "3",
            "null",
            "{a: {b: c}}",
        ),
        *("hydra/callbacks: mine", "override hydra/sweeper: basic", "'pkg://intruder'", "'file:///etc/passwd'"),
        *(f'"{reference(draw)}"'.replace("\\", ""), f'{{quantizer: "{reference(draw)}"}}'.replace("\\", "")),
        *(f"'{place}'" for place in draw.sample(places, 3)),
        *(f"{{dataset: '{place}'}}" for place in draw.sample(places, 2)),
    )
    listed = draw.sample(entries, draw.choice((1, 2, 3, 5)))
    before = "train, " if path == PRIMARY and draw.random() < 0.7 else ""
    return {f"conf/{path}": f"defaults: [{before}{', '.join(listed)}]\n{text(draw)}".encode(errors="surrogatepass")}
