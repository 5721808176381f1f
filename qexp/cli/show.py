"""One run on one page: all that its directory tells."""

from qexp.cli.text import named_rows
from qexp.runs.description import Rows, described
from qexp.runs.query import Entry
from qexp.utils.text import printable, size


def page(entry: Entry) -> str:
    """Return the page of a run: a line that says what it is, then a row for everything that is known."""
    told = described(entry)
    rows = [("run", str(entry.path)), *told.state, *told.result, *told.training, *told.origin, *_files(entry)]
    return named_rows(printable(told.head), [(printable(name), printable(value)) for name, value in rows])


def _files(entry: Entry) -> Rows:
    listed = [("", f"{size(count):>9}  {name}") for name, count in entry.files.items()]
    return [("files", f"{size(entry.bytes):>9}  in all"), *listed]
