"""One image file: opened, looked at and decoded, or the reason why not, in words that need no knowledge of Pillow."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from qexp.utils.text import one_line

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # for EPS, Pillow starts a program
TIFF = (b"II*\0", b"MM\0*")  # how such a file begins
MOST_PIXELS = 100_000_000  # 300 MB as bytes


def load_image(path: Path) -> Image.Image:
    """Return an image with three channels; raises as `checked`, and whatever Pillow raises where it is damaged.

    Pillow's warnings, of metadata that it skips, would be lines in between that name no file.
    """
    with opened(path) as file:
        return checked(file).convert("RGB")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open an image file, and keep still what libraries say of it; raise ValueError for what is no file, or empty."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:  # for pipes
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("no regular file")
        if not found.st_size:
            raise ValueError("an empty file")
        quiet = _silent_stderr() if file.peek(4)[:4] in TIFF else nullcontext()
        with warnings.catch_warnings(action="ignore"), quiet:
            yield file


def checked(file: BinaryIO) -> Image.Image:
    """Return an image that is not decoded yet; raise ValueError where it is none, or has too many pixels."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"it begins as no file of {', '.join(FORMATS[:-1])} or {FORMATS[-1]} does") from error
    except Image.DecompressionBombError as error:  # of twice as many as Pillow only warns of
        raise ValueError(f"more than {MOST_PIXELS:,} pixels") from error
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width:,} x {image.height:,} pixels are more than {MOST_PIXELS:,}")
    return image


def why_unreadable(error: BaseException) -> str:
    """Return why an image could not be read in one line, without its path, which the system's errors repeat."""
    return one_line((error.strerror if isinstance(error, OSError) else None) or str(error))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what a C library writes: libtiff and Pillow tell on stderr what comes as an error as well."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
