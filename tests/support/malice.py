"""Malicious and damaged inputs out of a seed: configurations, checkpoints, data, images, stores and command lines.

PYTHONPATH=tests:. python -m support.malice SEED [KIND [NUMBER]]    tries them, and prints those that did harm
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from support import (
    malice_checkpoints,
    malice_configs,
    malice_data,
    malice_images,
    malice_stores,
    malice_words,
)
from support.malice_case import Case
from support.malice_checks import verdict
from support.malice_store import Store, load, make

Maker = Callable[[random.Random, Store], Case]
KINDS: dict[str, tuple[Maker, int]] = {
    "configs": (malice_configs.case, 90),
    "checkpoints": (malice_checkpoints.case, 60),
    "data": (malice_data.case, 30),
    "images": (malice_images.case, 30),
    "stores": (malice_stores.case, 60),
    "words": (malice_words.case, 30),
}


def malicious(kind: str, seed: int, store: Store, numbers: range | None = None) -> Iterator[Case]:
    """Yield the cases of a kind, or some of them; each is a function of its kind, its number, and the seed."""
    make, count = KINDS[kind]
    for number in numbers if numbers is not None else range(count):
        case = make(random.Random(f"{seed} {kind} {number}"), store)
        yield replace(case, name=f"{kind} {number} of seed {seed}, {case.name}")


def main() -> int:
    """Try the cases of a seed; return the exit code."""
    seed, kinds, numbers = int(sys.argv[1]), sys.argv[2:3] or list(KINDS), sys.argv[3:4]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder, "made"))
        store = load(Path(folder, "made"))
        for kind in kinds:
            chosen = range(int(numbers[0]), int(numbers[0]) + 1) if numbers else None
            for number, case in enumerate(malicious(kind, seed, store, chosen)):
                began = time.monotonic()
                problems = verdict(case, Path(folder, f"{kind}-{number}"))
                wrong += bool(problems)
                if problems or numbers:
                    words = " ".join(map(ascii, case.words))[:1500]
                    print(f"{case.name}, {time.monotonic() - began:.1f} s: {words}")  # noqa: T201
                    print("\n".join(f"    {problem}" for problem in problems), flush=True)  # noqa: T201
    print(f"{wrong} did harm")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
