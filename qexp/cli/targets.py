"""Files that `--to` names: where they may lie, and what they may replace."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qexp.utils.errors import UsageError
from qexp.utils.files import is_folder, read_regular
from qexp.utils.text import UNFIT, one_line, printable

MOST_BYTES = 2**27  # of a file that is looked at before it is replaced


def target_of(text: str, ends: Sequence[str]) -> Path:
    """Return the file that a word names.

    Args:
        text: behind `--to`; `~` is a home directory.
        ends: of such files, without the dot.

    Raises:
        UsageError: it can be no file, has another end, or its folder is not there.
    """
    if not text or UNFIT.search(text):
        raise UsageError(f"--to {one_line(text)}: holds control characters" if text else "--to: names nothing")
    try:
        target = Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"--to {one_line(text)}: {error}") from error
    shown = printable(str(target))
    if end_of(target) not in ends:
        raise UsageError(f"--to {shown}: must end in .{', .'.join(ends)}")
    if not is_folder(target.parent):
        raise UsageError(f"--to {shown}: there is no folder {printable(str(target.parent))}")
    return target


def end_of(path: Path) -> str:
    """Return the end of a file's name in small letters, without the dot."""
    return path.suffix.lower().removeprefix(".")


def check_replaceable(path: Path, is_own: Callable[[bytes], bool], command: str) -> None:
    """Raise UsageError if there is something that a command has not made: it stays.

    Args:
        path: where its file is to lie.
        is_own: whether a content is such a file.
        command: as the user types it.
    """
    shown = printable(str(path))
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"cannot write {shown}: it is a link to what is not there") from None
        return
    except OSError as error:
        raise UsageError(f"cannot write {shown}: {error.strerror or error}") from error
    if not is_own(content):
        raise UsageError(f"cannot write {shown}: it is there, and not made by {command}; --to names another")
