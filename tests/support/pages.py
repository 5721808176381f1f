"""Reading pages of documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_PACKAGE = ROOT / "tests" / "own_package"


def section(page: str, title: str) -> str:
    """The text under a heading of a page."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
