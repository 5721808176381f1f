"""What a part found, and the table of it."""

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        part: its name.
        what: was done, in words.
        count: how often.
        wrong: one line for everything that went otherwise than promised.
        detail: other figures.
        seconds: it took.
    """

    part: str
    what: str
    count: int
    wrong: Sequence[str] = field(default_factory=tuple)
    detail: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        """Return the row for the terminal."""
        return f"{self.what}: {self.count}, wrong {len(self.wrong)}, {self.seconds:.0f} s  {self.detail}"


def as_markdown(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Return the table, below it what is wrong, above it the machine."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += [
        "| part | what was done | times | lost, different or wrong | seconds | besides |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        wrong = f"**{len(row.wrong)}**" if row.wrong else "0"
        lines.append(f"| {row.part} | {row.what} | {row.count:,} | {wrong} | {row.seconds:.0f} | {row.detail} |")
    if problems := [f"* {row.part}: {problem}" for row in rows for problem in row.wrong]:
        lines += ["", "Wrong:", "", *problems]
    return "\n".join(lines) + "\n"


def machine(seed: int) -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": str(os.cpu_count()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "seed": str(seed),
    }


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        name = subprocess.check_output(["git", "-C", folder, "rev-parse", "--short", "HEAD"], text=True).strip()
        changed = subprocess.check_output(["git", "-C", folder, "status", "--porcelain", ":/qexp", ":/conf"], text=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{name} with changes" if changed else name
