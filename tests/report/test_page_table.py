"""Our numbers beside those of a table: what is drawn around them."""

from types import SimpleNamespace

from qexp.report.page_table import _ours


def test_a_mean_of_one_run_has_no_interval() -> None:
    """One run does not tell a spread: an interval of no length would say that it is none."""
    rows = [(60.0, 2.0), (63.5, None), (None, None)]
    lines = [SimpleNamespace(mean=mean, std=std, row=SimpleNamespace(label="ste")) for mean, std in rows]
    several, single = _ours(lines, [0.0, 1.0, 2.0])
    assert (several.x, several.y, several.low, several.high) == ([0.0], [60.0], [58.0], [62.0])
    assert (single.x, single.y, single.low, single.high) == ([1.0], [63.5], None, None)
