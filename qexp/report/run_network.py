"""The network of one run, for the figures that look into it: opened from its checkpoint, with what is said of it."""

from dataclasses import dataclass

from torch import nn

from qexp.experiment.stored_network import stored_network
from qexp.quantizers import Coverage
from qexp.report.catalogue import Request
from qexp.report.series import commits_note, name_of, selected_run
from qexp.utils.errors import UsageError
from qexp.utils.text import printable


@dataclass(frozen=True)
class RunNetwork:
    """A run's network.

    Attributes:
        name: of the run, for a title.
        model: in evaluation mode, on the CPU.
        coverage: what of it is quantized, with the bits that its layers have now.
        caption: of which moment it is, with which commit it was trained.
    """

    name: str
    model: nn.Module
    coverage: Coverage
    caption: list[str]


def network_of(figure_name: str, request: Request) -> RunNetwork:
    """Return the network of the run that a request names, by its option `checkpoint` the last or the best.

    Args:
        figure_name: for messages.
        request: names the run.

    Raises:
        UsageError: no such run or checkpoint, or nothing in it is quantized.
    """
    which = request.choice("checkpoint")
    entry = selected_run(request)
    shown = printable(entry.key)
    if entry.method.startswith("fp-"):
        raise UsageError(f"run {shown} is float, and {figure_name} shows what is quantized")
    if not (entry.path / f"{which}.pt").is_file():
        raise UsageError(f"run {shown} has no {which}.pt: it is {entry.state}")
    found = stored_network(entry.path, f"qexp plot {figure_name} {shown}", which)
    is_whole = entry.state == "done"
    far = "" if is_whole else f" of a run that is {entry.state}, after epoch {entry.progress or '?'}"
    return RunNetwork(
        name_of(entry), found.model, found.coverage, [f"The network of {which}.pt{far}.", *commits_note([entry])]
    )
