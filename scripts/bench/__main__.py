"""Measure qexp's speed and memory on this machine, beside the goals; every figure is a ratio inside one process.

    make bench                                         all sections
    python scripts/bench --only step --repeats 15      one section
    python scripts/bench --json FILE --markdown FILE   also write the results

Times are medians of repeats taken in turns. A GPU is used where there is one. Leave the machine alone meanwhile.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import commands
import memory
import steps
import torch
from measure import Row
from networks import DEVICE

import engine
import qexp

SIZES = (512,) if DEVICE.type == "cuda" else (16, 64)
Sections = dict[str, Callable[[], Iterator[Row]]]


def sections(repeats: int, cases: list[str] | None = None) -> Sections:
    """Return name -> measurement, the steps of `cases` alone where there are some."""
    few = max(2, repeats // 4)
    eager = {"eager": lambda: steps.against_float(SIZES, repeats, cases, fused=False)}
    on_gpu = DEVICE.type == "cuda"
    return (eager if on_gpu else {}) | {
        "step": lambda: steps.against_float(SIZES, repeats, cases),
        "others": lambda: steps.against_others(SIZES, max(2, repeats // 2)),
        "compiled": lambda: steps.compiled(SIZES[-1], few),
        "memory": lambda: memory.rows(SIZES[-1]),
        "engine": lambda: engine.overhead(repeats, steps=100 if on_gpu else 10),
        "input": lambda: engine.inputs(few),
        "evaluation": lambda: engine.evaluation(few),
        "answer": lambda: commands.answers(few),
        "start": lambda: commands.first_step(few),
        "sweep": lambda: commands.sweep(2),
    }


def smallest() -> Sections:
    """Return name -> the same once over next to nothing, which shows that it runs and measures nothing."""
    few_steps = {"eager": lambda: steps.against_float((2,), 1, fused=False)} if DEVICE.type == "cuda" else {}
    return (
        sections(1)
        | few_steps
        | {
            "step": lambda: steps.against_float((2,), 1),
            "others": lambda: steps.against_others((2,), 1),
            "compiled": lambda: steps.compiled(2, 1),
            "memory": lambda: memory.rows(2),
            "engine": lambda: engine.overhead(1, size=4, steps=1),
            "input": lambda: engine.inputs(1, count=256),
            "evaluation": lambda: engine.evaluation(1, size=2, batches=1),
        }
    )


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo")  # of Linux
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    versions = {"qexp": qexp.__version__} | {name: metadata.version(name) for name in ("torch", "torchvision")}
    try:
        versions["brevitas"] = metadata.version("brevitas")
    except metadata.PackageNotFoundError:
        versions["brevitas"] = "not installed"
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    own = {"device": device, "cpu": cpu, "threads": str(torch.get_num_threads())}
    return own | {"python": platform.python_version()} | versions


def as_markdown(rows: list[Row], about: dict[str, str]) -> str:
    """Return the table."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["| section | figure | measured | goal | reached | times |", "|---|---|---|---|---|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{'>=' if row.more_is_better else '<='} {row.goal:g}"
        reached = {None: "", True: "yes", False: "**no**"}[row.met]
        lines.append(f"| {row.section} | {row.name} | {row.value:.2f} | {goal} | {reached} | {row.detail} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print as it goes, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(sections(1))
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="SECTION", help=", ".join(known))
    parser.add_argument("--repeats", type=int, default=12, help="of a step (default 12); longer actions take fewer")
    parser.add_argument("--cases", nargs="+", choices=list(steps.cases()), metavar="CASE", help="of the section step")
    parser.add_argument("--smallest", action="store_true", help="once over next to nothing, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    about, rows, began = machine(), [], time.perf_counter()
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    measurements = smallest() if arguments.smallest else sections(arguments.repeats, arguments.cases)
    for name in arguments.only:
        for row in measurements[name]():
            rows.append(row)
            sign = ">=" if row.more_is_better else "<="
            goal = "" if row.goal is None else f"  goal {sign} {row.goal:g}{'  MISSED' if row.met is False else ''}"
            print(f"{row.section + ': ' + row.name:<72}{row.value:6.2f}{goal:<24}  {row.detail}", flush=True)
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    if arguments.json:
        values = [asdict(row) | {"met": row.met, "value": None if math.isnan(row.value) else row.value} for row in rows]
        record = {"machine": about, "rows": values}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(rows, about))


if __name__ == "__main__":
    main()
