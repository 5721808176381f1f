"""The catalogue of figures: each has a module, a line of help, and its row in docs/figures.md."""

import re
from importlib import import_module

import pytest

from qexp.figures import INTERVALS
from qexp.report.bits_figure import COSTS
from qexp.report.catalogue import CHOICES, FIGURES, figure
from qexp.utils.errors import UsageError
from support.pages import ROOT


def rows() -> dict[str, str]:
    """Figure -> its row in the page."""
    text = (ROOT / "docs" / "figures.md").read_text()
    return {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)[^|]*\|.*$", text, re.MULTILINE)}


def test_the_page_has_a_row_for_each_figure_that_names_its_options() -> None:
    found = rows()
    assert set(found) == {one.name for one in FIGURES}
    for one in FIGURES:
        named = set(re.findall(r"`(\w+)=?", found[one.name].split("|", 3)[-1]))
        assert named == set(one.options), one.name


def test_each_figure_is_made_by_a_module_of_its_own() -> None:
    assert len({one.module for one in FIGURES}) == len(FIGURES)
    assert all(callable(import_module(f"qexp.report.{one.module}").make) for one in FIGURES)


def test_an_unknown_figure_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no figure 'curvs' \(did you mean 'curves'\?\); there are .*layers"):
        figure("curvs")


def test_the_words_of_options_are_those_that_the_figures_know() -> None:
    assert CHOICES["x"] == tuple(COSTS)
    assert CHOICES["interval"] == tuple(INTERVALS)
    assert set(CHOICES) <= {key for one in FIGURES for key in one.options}
