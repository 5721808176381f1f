"""Plant known mistakes one at a time, and see that the tests catch every one.

    python scripts/mutate.py                 all of them, one on each core at a time
    python scripts/mutate.py "half-up"       those whose name contains the text
    python scripts/mutate.py --nearest       each before the tests of its own module alone
    python scripts/mutate.py --write docs/mutations.md

Works on copies in a temporary folder. Exit code 1 if a mistake survives, or its place in the code is gone.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mistakes import MISTAKES, Mistake

ROOT = Path(__file__).resolve().parent.parent


def run_tests(folder: Path, names: Sequence[str]) -> str | None:
    """Run test files in `folder`; return the first test that fails, None if all pass."""
    files = [f"tests/{name}.py" for name in names]
    options = ["-x", "-q", "--no-header", "--durations=0", "-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    environment = os.environ | {"PYTHONPATH": str(folder)}  # for the processes that tests start
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pytest did not run:\n{result.stdout}\n{result.stderr}")
    return found[1].removeprefix("tests/")


def try_mistake(folder: Path, mistake: Mistake, tests: Sequence[str]) -> str | None:
    """Plant `mistake`, run `tests`, take it out again; return the test that caught it."""
    path = folder / mistake.path
    text = path.read_text()
    if text.count(mistake.old) != 1:
        raise SystemExit(f"{mistake.name}: `{mistake.old}` occurs {text.count(mistake.old)} times in {mistake.file}")
    path.write_text(text.replace(mistake.old, mistake.new))
    try:
        return run_tests(folder, tests)
    finally:
        path.write_text(text)


def copy_tree(folder: Path) -> Path:
    """Return `folder`, with what tests need of this checkout in it."""
    for name in ("qexp", "conf", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def try_all(chosen: Sequence[Mistake], tests: dict[Mistake, tuple[str, ...]], jobs: int) -> list[str | None]:
    """Return the test that caught each mistake; `jobs` of them are planted at a time, each in a copy of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            folders.put(copy_tree(Path(temporary, str(number))))

        def attempt(mistake: Mistake) -> str | None:
            folder = folders.get()
            try:
                caught = try_mistake(folder, mistake, tests[mistake])
            finally:
                folders.put(folder)
            print(f"{'caught  ' if caught else 'SURVIVED'}  {mistake.name}  {caught or ''}", flush=True)
            return caught

        first = folders.get()
        if broken := run_tests(first, sorted({name for names in tests.values() for name in names})):
            raise SystemExit(f"the tests fail without any mistake planted: {broken}")
        folders.put(first)
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(attempt, chosen))


def main() -> int:
    """Try all mistakes that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Plant known mistakes and see that the tests catch every one.")
    parser.add_argument("text", nargs="*", default=[""], help="only mistakes whose name contains one of these")
    parser.add_argument("--nearest", action="store_true", help="run the tests of a mistake's own module alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mistakes at a time (default: cores)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the list as markdown")
    arguments = parser.parse_args()
    chosen = [mistake for mistake in MISTAKES if any(text in mistake.name for text in arguments.text)]
    if not chosen:
        parser.error(f"no mistake is called so: {' '.join(arguments.text)}")
    tests = {mistake: mistake.tests[:1] if arguments.nearest else mistake.tests for mistake in chosen}
    caught = try_all(chosen, tests, min(arguments.jobs, len(chosen)))
    survivors = sum(test is None for test in caught)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    if arguments.write:
        arguments.write.write_text(as_markdown(list(zip(chosen, caught, strict=True))))
    return 1 if survivors else 0


def as_markdown(rows: list[tuple[Mistake, str | None]]) -> str:
    """Return the list as a table."""
    caught = sum(test is not None for _, test in rows)
    lines = [
        "# Planted mistakes\n",
        f"`python scripts/mutate.py --write docs/mutations.md`: {caught} of {len(rows)} caught. Each was planted alone",
        "in `qexp`; the test named is the first one that failed.\n",
        "| mistake | file | caught by |",
        "|---|---|---|",
        *(
            f"| {mistake.name} | {mistake.shown} | {f'`{test}`' if test else '**survived**'} |"
            for mistake, test in rows
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
