"""The errors a user can cause, each with the exit code of the command it ends.

QexpError            1  a run failed
├── UsageError       2  wrong option, value, data or device; nothing was created
└── Diverged         4  the loss left the real numbers
"""


class QexpError(Exception):
    """One clear line for the user: what, where, what to do."""

    exit_code = 1


class UsageError(QexpError):
    """The command cannot be carried out as written."""

    exit_code = 2


class Diverged(QexpError):
    """Training produced a loss that is not finite."""

    exit_code = 4
