"""The errors a user can cause, each with the exit code of the command it ends.

QexpError            1  a run failed
├── UsageError       2  wrong option, value, data or device; nothing was created
└── Diverged         4  training left the real numbers, or learns nothing
Interrupted    130/143  a signal asked the run to stop; not an Exception, so that nothing takes it for a failure
"""

import errno
import os
import signal
from pathlib import Path


class QexpError(Exception):
    """One clear line for the user: what, where, what to do."""

    exit_code = 1


class UsageError(QexpError):
    """The command cannot be carried out as written."""

    exit_code = 2


class Diverged(QexpError):
    """Training produced a value that is not finite, or stays at chance."""

    exit_code = 4


class Interrupted(BaseException):
    """A signal asked for the end; what was trained is in a checkpoint.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 130 if number == signal.SIGINT else 143


_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


def cannot_write(path: Path, error: OSError) -> QexpError:
    """Return the error for `path` that cannot be written: UsageError where another path would help."""
    reason = os.strerror(error.errno or errno.EIO)
    kind = UsageError if error.errno in _NOT_ALLOWED else QexpError
    advice = "; make space and run the same command again" if error.errno in _FULL else ""
    return kind(f"cannot write {path}: {reason}{advice}")
