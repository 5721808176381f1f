"""Which figures are on a page, and of which runs: what would be hidden under a hundred curves is left out, and told."""

from collections.abc import Sequence

from qexp.report.catalogue import FIGURES, Request, make_chart
from qexp.report.page_content import Lines, Part, Picture
from qexp.runs.groups import Group
from qexp.runs.run_values import ListedRun
from qexp.utils.errors import UsageError
from qexp.utils.text import plural

OF_RUNS = ("bits", "curves", "gap", "flips")
OF_A_RUN = ("curves", "gap", "attention", "layers", "weights", "flips")
_ELSEWHERE = "Trained with commit"  # of a caption: told of all runs under Environment
MOST_CURVES = 12  # rows of means whose trainings are drawn; a legend has room for them and some of float nets
MOST_FLOAT = 4


def figures_of(runs: Sequence[ListedRun], groups: Sequence[Group]) -> list[Part]:
    """Return the figures of runs, as far as they have what these need, and what is said of those that are missing.

    Args:
        runs: at least one.
        groups: the rows of their means; of too many the trainings of the best are drawn.
    """
    drawn, notes = _drawn(runs, groups)
    parts: list[Part] = []
    missing: dict[str, list[str]] = {}
    for name in (one.name for one in FIGURES):
        if name in (OF_A_RUN if len(runs) == 1 else OF_RUNS):
            of = runs if name == "bits" else drawn
            try:
                chart = make_chart(name, _request(of))
            except UsageError as error:
                missing.setdefault(str(error), []).append(name)
                continue
            said = [line for line in chart.caption if not line.startswith(_ELSEWHERE)]
            parts.append(Picture(chart, [*said, *([] if of is runs else notes)]))
    told = [f"Not drawn: {', '.join(names)}: {why}." for why, names in missing.items()]
    return [*parts, *([Lines(told)] if told else [])]


def _drawn(runs: Sequence[ListedRun], groups: Sequence[Group]) -> tuple[list[ListedRun], list[str]]:
    """Return the runs whose trainings are drawn, and what is said of the others."""
    by_mean = sorted(groups, key=lambda group: -group.mean)
    floats = [group for group in by_mean if all(run.entry.result.get("quantizer") == "fp" for run in group.runs)]
    others = [group for group in by_mean if group not in floats]
    if len(others) <= MOST_CURVES and len(floats) <= MOST_FLOAT:
        return list(runs), []
    kept = {run.entry.path for group in [*others[:MOST_CURVES], *floats[:MOST_FLOAT]] for run in group.runs}
    drawn = [run for run in runs if run.entry.path in kept]
    best = f"{min(len(others), MOST_CURVES)} quantized rows with the best mean"
    told = f"{best} and of {plural(min(len(floats), MOST_FLOAT), 'float row')}" if floats else best
    return drawn, [f"Drawn: {plural(len(drawn), 'run')} of {len(runs)}, those of the {told}."]


def _request(runs: Sequence[ListedRun]) -> Request:
    """Return the request for a figure of these runs: by their directories, in the store that these lie in."""
    paths = [run.entry.path.absolute() for run in runs]
    return Request([str(path) for path in paths], {}, paths[0].parents[3])
