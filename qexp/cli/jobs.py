"""One job of a command: carried out, whatever stops it, and what is recorded of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from qexp import runs
from qexp.config.config import Config
from qexp.config.trust import error_in_own_code, sys_exit
from qexp.experiment.runner import RunOutcome, run_experiment
from qexp.utils.errors import Interrupted, QexpError
from qexp.utils.signals import StopRequest

if TYPE_CHECKING:  # torch takes seconds to import
    from qexp.experiment.build import Parts


@dataclass(frozen=True)
class JobRecord:
    """How a job ended: its number and overrides, the outcome of its run, and the exit code if it was alone.

    Attributes:
        stops_others: whether no other job shall begin if it failed.
    """

    number: int
    overrides: tuple[str, ...]
    outcome: RunOutcome
    code: int = 0
    stops_others: bool = False


@dataclass(frozen=True)
class JobEnd:
    """How a run ended, its exit code if it could not begin, and the signal that stopped it."""

    outcome: RunOutcome
    code: int = 0
    stopped: BaseException | None = None


def run_to_its_end(
    ends: list[JobEnd],
    config: Config,
    console: Console,
    *_: object,
    parts: "Parts | None" = None,
    debug: bool = False,
    stop: StopRequest | None = None,
) -> float:
    """Carry out a run, append how it ended to `ends`, and return its hard top-1, for sweepers that search.

    A signal or a mistake is not raised: it is part of how the run ended.
    """
    path = runs.run_directory(config)
    try:
        ends.append(JobEnd(run_experiment(config, console, parts=parts, debug=debug, stop=stop)))
    except QexpError as error:
        ends.append(JobEnd(RunOutcome("failed", str(path), message=str(error)), error.exit_code))
    except SystemExit as error:  # Hydra would take it for an end that it asked for itself
        ends.append(JobEnd(RunOutcome("failed", str(path), message=error_in_own_code(error) or sys_exit(error)), 1))
    except (Interrupted, KeyboardInterrupt) as error:
        summary = runs.read_result(path)  # the signal may have come after the last step
        ends.append(JobEnd(RunOutcome("done" if summary else "interrupted", str(path), summary, str(error)), 0, error))
    return top1(ends[-1].outcome)


def top1(outcome: RunOutcome) -> float:
    """Return hard top-1 of a run, for sweepers that search; NaN without a result."""
    return outcome.summary["top1_hard"] if outcome.summary else float("nan")


def where_to_look(outcome: RunOutcome) -> str:
    """Return the file that holds the whole error, or the run's directory where there is none."""
    file = Path(outcome.path) / "error.txt"
    return str(file if file.is_file() else file.parent)
