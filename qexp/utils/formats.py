"""A table in the formats of other programs: GitHub's Markdown, CSV, LaTeX."""

import csv
import io
import re
from collections.abc import Sequence

_OF_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"\dag{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_SIGN = re.compile("|".join(map(re.escape, _OF_LATEX)))


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
    """Return a table as GitHub reads it; columns that `numeric` names are aligned to the right."""
    rules = ["---:" if name in numeric else "---" for name in headers]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in row) + " |"
        for row in (headers, rules, *rows)
    )


def comma_separated(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([headers, *rows])
    return out.getvalue().rstrip("\n")


def latex(headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
    r"""Return a table for LaTeX with the rules of its package booktabs; its special signs are escaped."""
    columns = "".join("r" if name in numeric else "l" for name in headers)
    head, *lines = [
        " & ".join(_latex_cell(cell, headers[at] in numeric) for at, cell in enumerate(row)) + r" \\"
        for row in (headers, *rows)
    ]
    body = ["\\toprule", head, "\\midrule", *lines, "\\bottomrule"]
    return "\n".join([r"% \usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"])


def _latex_cell(text: str, is_number: bool) -> str:
    """Return a cell of LaTeX; the minus of a number is one, and no hyphen."""
    escaped = _SIGN.sub(lambda found: _OF_LATEX[found[0]], text)
    return f"${escaped[0]}${escaped[1:]}" if is_number and re.match(r"[+-]\d", escaped) else escaped
