"""Draw the figures of docs/ again, each as SVG with its numbers as CSV beside it.

python scripts/figures.py                      draw all of them (make figures)
python scripts/figures.py --check              only say which of them are out of date; exit code 1 if any is
python scripts/figures.py --only NAME ...      of these alone, by the names of their files without the end
python scripts/figures.py --record NAME ...    make these anew from runs and data, which --runs-dir and --data-dir name

A figure that needs nothing but qexp is computed each time; the transfer functions of methods, whose tables of numbers
would be larger than the rest of docs/, have pictures alone. One of runs or of data that do not lie in the tree is kept
as NAME.json: the chart as data, with the command that made it and the commit. It is drawn again from that, and made
anew by --record.
"""

import argparse
import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from math import isclose
from pathlib import Path
from typing import Any

from qexp.cli.plot import figure_source
from qexp.figures import Band, Bars, Chart, Curve, Dots, Panel, Surface, numbers_csv, render
from qexp.report.catalogue import Request, figure, make_chart
from qexp.utils import atomic
from qexp.utils.errors import QexpError

ROOT = Path(__file__).resolve().parent.parent
MARKS = {kind.__name__: kind for kind in (Band, Bars, Curve, Dots, Surface)}
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
PLACE = 0.02  # of a point, by which something in a picture may lie elsewhere
RELATIVE, ABSOLUTE = 1e-5, 1e-7  # by which numbers may differ on another machine, whose sums round otherwise


@dataclass(frozen=True)
class Entry:
    """A figure of the docs.

    Attributes:
        place: in docs/, without the end of the files' names.
        words: behind `qexp plot`.
        is_recorded: made of runs or data that are not in the tree.
        has_numbers: whether there is a CSV beside it.
    """

    place: str
    words: str
    is_recorded: bool = False
    has_numbers: bool = True

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.place.rpartition("/")[2]

    def path(self, end: str) -> Path:
        """Return the file with this end."""
        return ROOT / "docs" / f"{self.place}{end}"


TRANSFERS = ("all", "br", "daq", "dqa", "dropbits", "rq", "srq", "ste")
FIGURES = (
    Entry("results/images/error", "error"),
    Entry("results/images/attention", "attention mnpppfll", is_recorded=True),
    Entry("results/images/lenet5-bits", "bits mnist quantizer=fp,ste,srq 'layer_bits=[]' interval=t", is_recorded=True),
    Entry("results/images/surface-random", "surface random images=64", is_recorded=True),
    *(Entry(f"images/transfer-{name}", f"transfer {name}", has_numbers=False) for name in TRANSFERS),
)


# Charts as files


def as_data(chart: Chart) -> dict[str, Any]:
    """Return a chart as what JSON can hold; marks say of which kind they are."""
    panels = [
        {**_fields(panel), "marks": [{"kind": type(mark).__name__, **_fields(mark)} for mark in panel.marks]}
        for panel in chart.panels
    ]
    return {**_fields(chart), "panels": panels}


def _fields(one: Any) -> dict[str, Any]:
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def from_data(data: Mapping[str, Any]) -> Chart:
    """Return the chart that `as_data` wrote."""
    return Chart(**{**data, "panels": [_panel(panel) for panel in data["panels"]]})


def _panel(data: Mapping[str, Any]) -> Panel:
    marks = [MARKS[mark["kind"]](**{key: mark[key] for key in mark if key != "kind"}) for mark in data["marks"]]
    names = {key: {float(place): name for place, name in data[key].items()} for key in ("x_names", "y_names")}
    return Panel(**{**data, "marks": marks, **names})


# Drawing


def made(entry: Entry, runs_dir: Path, data_dir: str | None) -> Chart:
    """Return the chart that its command makes; raises QexpError."""
    name, *rest = shlex.split(entry.words)
    options = dict(word.split("=", 1) for word in rest if word.partition("=")[0] in figure(name).options)
    words = [word for word in rest if word.partition("=")[0] not in options]
    return make_chart(name, Request(words, options, runs_dir, data_dir))


def record(entry: Entry, runs_dir: Path, data_dir: str | None) -> None:
    """Write NAME.json anew; raises QexpError."""
    source = figure_source(shlex.split(entry.words))
    data = {"source": source, "chart": as_data(made(entry, runs_dir, data_dir))}
    atomic.write(entry.path(".json"), (json.dumps(data, separators=(",", ":"), default=list) + "\n").encode())


def files_of(entry: Entry) -> dict[Path, bytes]:
    """Return the files of a figure as they should be; raises QexpError.

    What is computed each time carries no commit: it would be another one in each, with the same numbers.
    """
    if entry.is_recorded:
        kept = json.loads(entry.path(".json").read_text())
        chart, source = from_data(kept["chart"]), kept["source"]
    else:
        chart, source = made(entry, ROOT / "runs", None), {"command": f"qexp plot {entry.words}"}
    numbers = {entry.path(".csv"): numbers_csv(chart).encode()} if entry.has_numbers else {}
    return {**numbers, entry.path(".svg"): render(chart, "svg", source=source).content}


def problem(entry: Entry) -> str | None:
    """Return in what the files of a figure differ from what is drawn now; None where they do not."""
    wanted = files_of(entry)
    numbers, picture = entry.path(".csv"), entry.path(".svg")
    if missing := [path.name for path in wanted if not path.is_file()]:
        return f"{missing[0]} is missing"
    is_comparable = version("matplotlib") == drawn_with()
    if not entry.has_numbers:
        is_same = not is_comparable or looks_alike(picture.read_text(), wanted[picture].decode())
        return None if is_same else f"{picture.name} looks otherwise"
    if why := difference(numbers.read_text(), wanted[numbers].decode()):
        return f"{numbers.name}: {why}"
    if is_comparable and numbers.read_bytes() == wanted[numbers] and picture.read_bytes() != wanted[picture]:
        return f"{picture.name} has the same numbers and looks otherwise"
    return None


def difference(found: str, wanted: str) -> str | None:
    """Return where two tables of numbers differ by more than rounding; None where they do not."""
    ours, theirs = (list(csv.reader(io.StringIO(text))) for text in (found, wanted))
    if len(ours) != len(theirs):
        return f"{len(ours)} lines, and {len(theirs)} now"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        if len(one) != len(other) or not all(map(_is_same, one, other)):
            return f"line {number} is {','.join(one)}, and {','.join(other)} now"
    return None


def looks_alike(found: str, wanted: str) -> bool:
    """Whether two SVG files draw the same, to the rounding of places; names of parts hang on their last digits."""
    (ours, our_places), (theirs, their_places) = map(_parted, (found, wanted))
    return ours == theirs and all(isclose(*pair, abs_tol=PLACE) for pair in zip(our_places, their_places, strict=True))


def _parted(text: str) -> tuple[str, list[float]]:
    bare = re.sub(r'((?:\bid="|#)[a-z])[0-9a-f]{10}\b', r"\1", text)
    return re.sub(NUMBER, "", bare), [float(one) for one in re.findall(NUMBER, bare)]


def _is_same(one: str, other: str) -> bool:
    try:
        return one == other or isclose(float(one), float(other), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except ValueError:
        return False


def drawn_with() -> str:
    """Return the version of matplotlib whose pictures are compared byte by byte."""
    found = re.search(r"^matplotlib==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def main() -> int:
    """Draw the figures, or compare them; return the exit code."""
    parser = argparse.ArgumentParser(description="Draw the figures of docs/ again, from the code or what is recorded.")
    known = [entry.name for entry in FIGURES]
    parser.add_argument("--check", action="store_true", help="only say which of them are out of date")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=known, help=f"of these alone: {', '.join(known)}")
    kept = [entry.name for entry in FIGURES if entry.is_recorded]
    parser.add_argument("--record", nargs="+", metavar="NAME", choices=kept, default=[], help="make these anew")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where --record finds runs")
    parser.add_argument("--data-dir", help="where --record finds data sets")
    arguments = parser.parse_args()
    only, wrong = arguments.only or arguments.record or known, 0
    for entry in FIGURES:
        try:
            entry.path("").parent.mkdir(parents=True, exist_ok=True)
            if entry.name in arguments.record:
                record(entry, arguments.runs_dir, arguments.data_dir)
            if entry.name not in only:
                continue
            if not arguments.check:
                atomic.write_together(files_of(entry))
            elif why := problem(entry):
                wrong += 1
                print(f"docs/{entry.place}: {why}; make figures draws it", file=sys.stderr)
        except (QexpError, OSError, ValueError) as error:
            wrong += 1
            print(f"docs/{entry.place}: {error}", file=sys.stderr)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
