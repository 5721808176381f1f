"""The parser of the commands that are not Hydra's."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from qexp.utils.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Takes words and options in any order; what it refuses is one line, as everywhere in qexp."""

    def __init__(self, prog: str, description: str, *, usage: str | None = None, epilog: str | None = None):
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, usage, description, epilog, formatter_class=layout, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help)")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the words and options; raise UsageError."""
        return self.parse_intermixed_args(list(words))
