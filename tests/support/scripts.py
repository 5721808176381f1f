"""Scripts in a child, which need not import torch."""

import runpy
import sys
from pathlib import Path

from support.crashes import Action

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str, *words: str) -> Action:
    """Return what carries out `python scripts/NAME WORDS`."""
    path = SCRIPTS / name

    def action() -> int:
        own = path if path.is_dir() else path.parent
        for module in own.glob("*.py"):  # a folder of tests may have the same name
            sys.modules.pop(module.stem, None)
        sys.path.insert(0, str(own))
        sys.argv = [str(path), *words]
        runpy.run_path(str(path), run_name="__main__")
        return 0

    return action
