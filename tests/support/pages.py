"""Reading pages of documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_PACKAGE = ROOT / "tests" / "own_package"


def section(page: str, title: str) -> str:
    """The text under a heading of a page, to the next one; what stands in a block of code is no heading."""
    kept, fence, inside = [], "", False
    for line in page.splitlines(keepends=True):
        if ticks := re.match("`{3,}", line):
            fence = "" if line.strip() == fence else fence or ticks[0]
        if not fence and line.startswith("## "):
            inside = line == f"## {title}\n"
        elif inside:
            kept.append(line)
    assert kept, f"no section {title}"
    return "".join(kept)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
