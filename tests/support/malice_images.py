"""Folders of images that are none, are enormous, or are programs."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

from support.bad_inputs import FOLDERS
from support.malice_archive import zeros
from support.malice_case import Case, Content, Folder, Link, Pipe, Same, Sparse
from support.malice_pieces import ESCAPES, damaged
from support.malice_store import Store

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "TIFF",
    "WEBP",
    "BMP",
    "PPM",
    "ICO",
    "TGA",
    "PCX",
    "DDS",
    "JPEG2000",
    "ICNS",
    "PDF",
    "EPS",
)
ENDINGS = (".JPEG", ".jpg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".JPEG", ".gif", ".eps")
SIDES = (1, 0, 9999, 65_535, 10**6, 2**31 - 1)
PROGRAM = "(canary) (w) file closefile"  # in PostScript
LINKS = (
    *("/dev/zero", "/dev/full", "/dev/stdin", "/etc/passwd", "/proc/self/environ", ".", "9.JPEG", "../../../../canary"),
    *("../../../../../outside/precious.txt", "../../../../../outside/folder"),
)


def case(draw: random.Random, store: Store) -> Case:
    """A set of two classes, one of whose images is not as it should be, and a command that trains on it."""
    files: dict[str, Content] = {}
    for split, name, number in ((s, n, i) for s in ("train", "val") for n in ("cat", "dog") for i in range(2)):
        files[f"data/imagenet/{split}/{name}/{number}.JPEG"] = picture("JPEG")
    folder = f"data/imagenet/{draw.choice(('train', 'train', 'val'))}/{draw.choice(('cat', 'dog'))}"
    number = draw.choice(("0", "1", "9", draw.choice(ESCAPES).replace("\0", ""), "é", "a\udcff"))
    what = draw.choice((_image, _image, _image, _place, _place, _folder))
    if what is _folder:
        files |= _folder(draw, folder)
    else:
        files[f"{folder}/{number}{draw.choice(ENDINGS)}"] = what(draw)
    words = ["train", *FOLDERS, "init=scratch", f"workers={draw.choice((0, 0, 0, 1))}", "threads=1"]
    return Case(f"image in {folder}", (*words, *draw.choice(((), (), (), ("--dry-run",)))), files)


@cache
def picture(format: str, side: int = 20) -> bytes:
    """A real image, as far as Pillow writes that format."""
    buffer = io.BytesIO()
    try:
        Image.frombytes("RGB", (side, side), random.Random(0).randbytes(3 * side * side)).save(buffer, format)
    except (OSError, KeyError, ValueError):  # without the library of the format
        return b""
    return buffer.getvalue()


def _place(draw: random.Random) -> Content:
    """What is no file."""
    link = Link(draw.choice(LINKS))
    return draw.choice(
        (link, link, Pipe(), Folder(), Same("../outside/precious.txt"), Sparse(picture("BMP"), 2**36), b"")
    )


def _folder(draw: random.Random, folder: str) -> dict[str, Content]:
    """A folder of a class that is something else, or is called as none."""
    other = folder.rpartition("/")[0]
    name = draw.choice(
        (*(text.replace("\0", "") for text in ESCAPES), "x" * 200, "a\udcff", "-rf", "~", "$(touch canary)")
    )
    return draw.choice(
        (
            {f"{other}/{name}/0.JPEG": picture("JPEG")},
            {f"{split}/{name}/0.JPEG": picture("JPEG") for split in ("data/imagenet/train", "data/imagenet/val")},
            {f"{other}/{name}": Link(draw.choice(("..", ".", "/dev", "cat", "/etc", "/proc/self/fd")))},
            {f"{other}/{name}": Pipe()},
            {f"{folder}/{number}{name[:9]}.jpg": Link("0.JPEG") for number in range(3000)},
        )
    )


def _image(draw: random.Random) -> Content:
    """A file that says that it is an image."""
    kind = draw.random()
    if kind < 0.2:
        return damaged(draw, picture(draw.choice(FORMATS)))
    if kind < 0.35:
        return picture(draw.choice(FORMATS), draw.choice((1, 20, 300)))
    return draw.choice(MAKERS)(draw)


def _png(draw: random.Random) -> bytes:
    """A PNG of another size than it says, or with parts that burst."""
    sides = draw.choice((draw.choice(SIDES), draw.choice(SIDES))), draw.choice((draw.choice(SIDES), 20))
    bits, color = draw.choice(((1, 0), (8, 0), (8, 2), (16, 6), (8, 3), (7, 9)))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *sides, bits, color, 0, 0, draw.choice((0, 1))))]
    burst = b"\x78\xda" + zeros(draw.choice((64, 900)))
    extra = draw.choice((b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"PLTE", b"eXIf", b"acTL", b"x\x1b[m"))
    if draw.random() < 0.6:
        parts.append((extra, draw.choice((b"a\0\0" + burst, b"a" * 70_000, b"", b"\x1b[31m\0x"))))
    parts += [(b"IDAT", draw.choice((burst, zlib.compress(bytes(1000)), b"", burst[:500])))] * draw.choice((1, 1, 3))
    parts.append((b"IEND", b""))
    crc = draw.choice((0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part, crc) for part in parts)


def _chunk(name: bytes, content: bytes, crc: int) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content) ^ crc)


def _bmp(draw: random.Random) -> bytes:
    sides = (draw.choice((*SIDES, -(2**31), -20)), draw.choice((*SIDES, -1)))
    head = struct.pack(
        "<IiiHHIIiiII", 40, *sides, 1, draw.choice((1, 8, 24, 32, 99)), draw.choice((0, 1, 2, 3, 9)), 0, 0, 0, 0, 0
    )
    return (
        b"BM" + struct.pack("<IHHI", draw.choice((54, 2**32 - 1)), 0, 0, draw.choice((54, 0, 2**31))) + head + bytes(99)
    )


def _ppm(draw: random.Random) -> bytes:
    sides = b"%d %d" % (draw.choice((*SIDES, 10**40)), draw.choice(SIDES))
    magic = draw.choice((b"P6", b"P5", b"P4", b"P3", b"P1", b"Pf", b"P7", b"Py"))
    return (
        magic
        + b"\n"
        + draw.choice((b"", b"# \x1b[31m\n", b"#" * 70_000))
        + sides
        + b"\n"
        + draw.choice((b"255", b"0", b"9" * 500))
        + b"\n"
        + b"1 " * 200
    )


def _tiff(draw: random.Random) -> bytes:
    """A TIFF whose directory says too much, or never ends."""
    sides = (draw.choice(SIDES), draw.choice(SIDES))
    entries = [
        *(
            (256, 4, 1, sides[0]),
            (257, 4, 1, sides[1]),
            (258, 3, 1, draw.choice((1, 8, 32, 99))),
            (262, 3, 1, draw.choice((1, 2, 6))),
        ),
        (259, 3, 1, draw.choice((1, 5, 7, 8, 32773, 34925, 50001, 99))),
        *(
            (273, 4, draw.choice((1, 2**31)), 8),
            (277, 3, 1, draw.choice((1, 3, 999))),
            (278, 4, 1, draw.choice((1, 2**31))),
        ),
        *(
            (279, 4, 1, draw.choice((100, 2**32 - 1))),
            (draw.randrange(65536), draw.randrange(20), draw.choice((1, 2**31)), 8),
        ),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    after = draw.choice((0, 8, 2**31))
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + directory
        + struct.pack("<I", after)
        + draw.choice((bytes(200), b"\x78\xda" + zeros(64)))
    )


def _gif(draw: random.Random) -> bytes:
    frame = (
        b"\x2c" + struct.pack("<4HB", 0, 0, draw.choice((1, 65535)), draw.choice((1, 65535)), 0) + b"\x02\x02\x44\x01\0"
    )
    return (
        b"GIF89a"
        + struct.pack("<2H3B", 65535, 65535, 0x80, 0, 0)
        + bytes(6)
        + frame * draw.choice((1, 50, 5000))
        + b";"
    )


def _jpeg(draw: random.Random) -> bytes:
    """A JPEG that says another size, or has comments without end."""
    whole = bytearray(picture("JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", draw.choice((1, 9999, 65_535)), draw.choice((1, 9999, 65_535)))
    comment = b"\xff\xfe" + struct.pack(">H", 65_535) + b"\x1b" * 65_533
    return bytes(whole[:2]) + comment * draw.choice((0, 1, 100)) + bytes(whole[2:])


def _text(draw: random.Random) -> bytes:
    texts = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n{PROGRAM}\n%%EOF\n",
        "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>",
        "<html>\x1b[31mnot found</html>",
        "push graphic-context\nfill 'url(https://x\";touch \"canary)'\n",
        "#define x_width 20\n#define x_height 20\nstatic char x_bits[] = {0};",
        "SIMPLE  =                    T",
    )
    return draw.choice(texts).encode()


MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    _png,
    _png,
    _bmp,
    _ppm,
    _tiff,
    _tiff,
    _gif,
    _jpeg,
    _jpeg,
    _text,
    _text,
)
