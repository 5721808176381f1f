"""Plant known mistakes one at a time, and see that the tests catch every one.

    python scripts/mutate.py                 all of them, about half an hour
    python scripts/mutate.py "half-up"       those whose name contains the text
    python scripts/mutate.py --nearest       each before the tests of its own module alone
    python scripts/mutate.py --write docs/mutations.md

Works on a copy in a temporary folder. Exit code 1 if a mistake survives, or its place in the code is gone.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mistakes import MISTAKES, Mistake

ROOT = Path(__file__).resolve().parent.parent


def run_tests(folder: Path, names: Sequence[str]) -> str | None:
    """Run test files in `folder`; return the first test that fails, None if all pass."""
    files = [f"tests/{name}.py" for name in names]
    options = ["-x", "-q", "--no-header", "--durations=0", "-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
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


def main() -> int:
    """Try all mistakes that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Plant known mistakes and see that the tests catch every one.")
    parser.add_argument("text", nargs="*", default=[""], help="only mistakes whose name contains one of these")
    parser.add_argument("--nearest", action="store_true", help="run the tests of a mistake's own module alone")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the list as markdown")
    arguments = parser.parse_args()
    chosen = [mistake for mistake in MISTAKES if any(text in mistake.name for text in arguments.text)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("qexp", "conf", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        tests = {mistake: mistake.tests[:1] if arguments.nearest else mistake.tests for mistake in chosen}
        if broken := run_tests(folder, sorted({name for names in tests.values() for name in names})):
            raise SystemExit(f"the tests fail without any mistake planted: {broken}")
        rows = []
        for mistake in chosen:
            caught = try_mistake(folder, mistake, tests[mistake])
            rows.append((mistake, caught))
            print(f"{'caught  ' if caught else 'SURVIVED'}  {mistake.name}  {caught or ''}", flush=True)
    survivors = sum(caught is None for _, caught in rows)
    print(f"{len(rows) - survivors} of {len(rows)} caught")
    if arguments.write:
        arguments.write.write_text(as_markdown(rows))
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
