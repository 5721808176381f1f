"""Archives that lie: what Python's zipfile would not write."""

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

STORED, DEFLATED = 0, 8
MEGABYTE = 2**20


@dataclass(frozen=True)
class Member:
    """One file of an archive; what is None is told as it is.

    Attributes:
        name: of the file.
        packed: as the archive has it.
        method: how it is packed.
        size: that it is said to have.
        crc: its checksum.
        flags: bit 0 says that it is encrypted.
        mode: of Unix; 0o120777 is a link.
    """

    name: bytes
    packed: bytes
    method: int = STORED
    size: int | None = None
    crc: int | None = None
    flags: int = 0
    mode: int = 0o100644

    def head(self, is_central: bool, offset: int = 0) -> bytes:
        """The head in front of it, or in the list at the end."""
        size = len(self.packed) if self.size is None else self.size
        crc = zlib.crc32(self.packed) if self.crc is None else self.crc
        told = (self.flags, self.method, 0, 33, crc, len(self.packed), min(size, 2**32 - 1), len(self.name), 0)
        if not is_central:
            return struct.pack("<4s5H3I2H", b"PK\3\4", 20, *told) + self.name
        rest = (0, 0, 0, self.mode << 16, offset)
        return struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, *told, *rest) + self.name


def archive(members: Sequence[Member], *, listed: Sequence[Member] | None = None, before: bytes = b"") -> bytes:
    """An archive of members; its list may tell otherwise than what stands before each."""
    body, offsets = before, []
    for member in members:
        offsets.append(len(body))
        body += member.head(False) + member.packed
    central = b"".join(one.head(True, at) for one, at in zip(listed or members, offsets, strict=False))
    count = len(listed or members)
    return body + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(central), len(body), 0)


def deflated(content: bytes) -> bytes:
    """Content as an archive packs it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@cache
def zeros(megabytes: int) -> bytes:
    """So many megabytes of zeros, packed into a thousandth; made of one block again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * megabytes + b"\3\0"


def bomb(draw: random.Random, name: bytes, head: bytes = b"") -> Member:
    """A member that is far larger unpacked, and perhaps says otherwise."""
    megabytes = draw.choice((64, 900, 5000))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + zeros(megabytes)
    whole = len(head) + megabytes * MEGABYTE
    return Member(name, packed, DEFLATED, draw.choice((whole, whole, 100, len(packed))), draw.choice((0, 12345)))


def spoiled(draw: random.Random, members: Sequence[Member]) -> bytes:
    """An archive of members with something wrong about it as an archive."""
    members = list(members)
    where = draw.randrange(len(members))
    one = members[where]
    names = (b"/tmp/canary", b"../canary", b"canary", b"\x1b[31mx", b"x\0y", b"x" * 60_000, b"", b"\xff\xfe", one.name)
    others = (
        replace(one, name=draw.choice(names)),
        replace(one, name=b"canary", packed=b"../../outside/precious.txt", mode=0o120777),
        replace(one, size=draw.choice((0, 1, 2**31, 2**32 - 2, 2**32 - 1))),
        replace(one, method=draw.choice((DEFLATED, 1, 9, 12, 14, 93, 99))),
        replace(one, method=DEFLATED, packed=deflated(one.packed), size=len(one.packed), crc=zlib.crc32(one.packed)),
        replace(one, flags=draw.choice((1, 0x20, 0x41, 0x800, 0xFFFF))),
        replace(one, crc=draw.getrandbits(32)),
        bomb(draw, one.name, one.packed[:80]),
    )
    changed = draw.choice(others)
    way = draw.choice(("instead", "instead", "listed", "besides", "besides", "many", "behind"))
    if way == "listed":
        return archive(members, listed=[*members[:where], changed, *members[where + 1 :]])
    if way == "many":
        return archive([*members, *(Member(b"%d" % number, b"") for number in range(draw.choice((300, 20_000))))])
    if way == "behind":
        return archive(members, before=draw.choice((b"\0" * 100, b"MZ" * 50, b"\x93NUMPY", archive(members))))
    members[where : where + (way == "instead")] = [changed]
    return archive(members)
