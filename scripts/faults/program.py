"""The parts in their order, and the table of what they found."""

import argparse
import importlib
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import clock
import damage
import denied
import disk
import fuzz
import inputs
import kills
import malice
import preload
import signals
import starters
import writes
from cases import References, Setting
from rows import Row, as_markdown, machine

import qexp

PARTS: dict[str, Callable[[Setting], Iterable[Row]]] = {
    "kills": kills.rows,
    "writes": writes.rows,
    "damage": damage.rows,
    "disk": disk.rows,
    "denied": denied.rows,
    "signals": signals.rows,
    "starters": starters.rows,
    "clock": clock.rows,
    "inputs": inputs.rows,
    "malice": malice.rows,
    "fuzz": fuzz.rows,
}


def main(about: str) -> int:
    """Do what the command line says; return the exit code."""
    arguments = _arguments(about)
    if "writes" in arguments.parts:
        preload.load()
    _import_everything()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder, facts = Path(tempfile.mkdtemp(prefix="qexp-faults-")), machine(arguments.seed)
    folder.chmod(0o755)  # a child without rights has to get in
    setting = Setting(folder, arguments.seed, arguments.points, arguments.fuzz, arguments.jobs, References(folder))
    rows: list[Row] = []
    is_right = False
    try:
        for name in arguments.parts:
            rows += _carry_out(name, setting)
        is_right = not any(row.wrong for row in rows)
    finally:
        if arguments.keep and not is_right:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    table = as_markdown(rows, facts)
    print(f"\n{table}", end="")
    if arguments.output:
        arguments.output.write_text(table)
    return 0 if is_right else 1


def _arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python scripts/faults", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them without")
    parser.add_argument(
        "--points", type=int, default=150, help="trials of kills and of writes; the other parts have shares of it"
    )
    parser.add_argument("--fuzz", type=int, default=10_000, help="command lines")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of trials that went wrong")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    arguments.parts = arguments.parts or list(PARTS)
    return arguments


def _import_everything() -> None:
    """Import all of qexp, so that children neither wait for it nor see the edits of a developer meanwhile."""
    for module in pkgutil.walk_packages(qexp.__path__, "qexp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _carry_out(name: str, setting: Setting) -> Sequence[Row]:
    began, rows = time.monotonic(), []
    for row in _safely(name, setting):
        rows.append(row)
        print(f"{name + ':':<10}{row.line()}", flush=True)
        for problem in row.wrong:
            print(f"          WRONG  {problem}", flush=True)
    print(f"{name + ':':<10}{time.monotonic() - began:.0f} s", flush=True)
    return rows


def _safely(name: str, setting: Setting) -> Iterator[Row]:
    """Yield the rows of a part; where it cannot go on itself, that is wrong as well."""
    try:
        yield from PARTS[name](setting)
    except Exception:
        yield Row(name, "the part itself ended early", 0, [repr(traceback.format_exc()[-1000:])])
