"""Data sets in the files that torchvision knows, downloaded where they are missing."""

import contextlib
import io
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from torchvision import datasets

from qexp.data.images import Images
from qexp.utils.errors import UsageError

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Download:
    """A torchvision data set and its paths relative to the data folder.

    `files` must all lie there; `leavings` is what a broken download may leave behind.
    """

    kind: type[datasets.CIFAR10] | type[datasets.MNIST]
    files: tuple[str, ...]
    leavings: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Folder of the files, relative to the data folder."""
        return str(Path(self.files[0]).parent)

    def complete(self, data_dir: Path) -> bool:
        """Whether all files are there; their content is checked when they are read."""
        return all((data_dir / name).is_file() for name in self.files)

    def check_sizes(self, data_dir: Path) -> None:
        """Raise UsageError if one of the files is there, but empty."""
        for path in (data_dir / name for name in self.files):
            if path.is_file() and path.stat().st_size == 0:
                raise UsageError(f"{path}: is empty; delete the folder {data_dir / self.folder} and run again")

    def fetch(self, data_dir: Path) -> str | None:
        """Download into `data_dir`; return why that failed, or None. A failure leaves nothing new behind."""
        try:
            with (
                _undone_on_failure(data_dir, self.leavings),
                _socket_timeout(),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                self.kind(data_dir, train=True, download=True)
        except (OSError, RuntimeError, HTTPException) as error:
            # torchvision's message for MNIST has several lines, the cause is in the last one.
            return (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return None

    def read(self, data_dir: Path, train: bool) -> Images:
        """Read the training or the test images, images as (N, H, W, C).

        Raises:
            UsageError: the files are damaged (torchvision compares checksums for CIFAR).
        """
        try:
            loaded = self.kind(data_dir, train=train, download=False)
        except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
            raise UsageError(
                f"{data_dir / self.folder}: the files are damaged; delete this folder and run again"
            ) from error
        pixels = np.asarray(loaded.data, dtype=np.uint8)
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        return Images(pixels, np.asarray(loaded.targets, dtype=np.int64))


def cifar(kind: type[datasets.CIFAR10]) -> Download:
    """Return the paths of CIFAR-10 or CIFAR-100."""
    names = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    return Download(kind, tuple(f"{kind.base_folder}/{name}" for name in names), (kind.base_folder, kind.filename))


def mnist() -> Download:
    """Return the paths of MNIST."""
    names = (Path(name).stem for name, _ in datasets.MNIST.resources)  # without .gz
    return Download(datasets.MNIST, tuple(f"MNIST/raw/{name}" for name in names), ("MNIST",))


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Let connections fail after 30 s; torchvision sets no limit, so a dead one would hang for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _undone_on_failure(data_dir: Path, names: tuple[str, ...]) -> Iterator[None]:
    """On any exception remove `names` and the folder `data_dir` (with its parents) as far as they were not there."""
    new_paths = [data_dir / name for name in names if not (data_dir / name).exists()]
    new_folders = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        yield
    except BaseException:  # Ctrl-C included
        for path in new_paths:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in new_folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
