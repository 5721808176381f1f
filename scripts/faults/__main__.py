"""Break runs on purpose, thousands of times, and count what was lost, and what came out differently.

    python scripts/faults                              all parts, about half an hour on two cores
    python scripts/faults kills signals --points 30    two parts, fewer trials
    python scripts/faults --output FILE                also write the table

Linux. Full disks need root, kills at calls of the system gcc. Exit code 1 if anything is wrong.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Set the environment that runs inherit before anything imports torch; return the exit code."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in [name for name in os.environ if name.startswith("QEXP_") or name == "HYDRA_FULL_ERROR"]:
        del os.environ[name]
    sys.path[1:1] = [str(ROOT), str(ROOT / "tests")]
    return import_module("program").main(__doc__)


if __name__ == "__main__":
    sys.exit(main())
