"""`transfer`: methods by their names."""

from pathlib import Path

import pytest

from qexp.figures import transfer
from qexp.figures.drawing import render
from qexp.report.catalogue import Request, make_chart
from qexp.utils.errors import UsageError
from support import methods


def chart(*words, **options):
    return make_chart("transfer", Request(words, options, Path("runs")))


def test_all_methods_are_in_one_chart(monkeypatch):
    monkeypatch.setattr(transfer, "DRAWS", 2)
    names = [name for name in methods.NAMES if name != "fp"]
    found = chart("all")
    assert [panel.title.partition(",")[0] for panel in found.panels] == [name for name in names for _ in range(4)]
    assert found.columns == 4
    assert all(f"{name} {methods.usual_bits(name) if name != 'dropbits' else 3}" in found.title for name in names)


def test_bits_are_those_that_are_asked_for():
    found = chart("ste", bits="4")
    assert found.title == "ste, 4 bits"
    assert [len(set(panel.marks[0].y)) for panel in found.panels] == [16, 1, 16, 1]
    assert chart("ste").title == "ste, 2 bits"
    assert chart("dropbits", bits="2").title == "dropbits, 2 bits"


def test_it_is_drawn_in_the_same_bytes_twice():
    first, second = (render(chart("daq"), source={"command": "c"}).content for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("dqaa",), {}, "no method 'dqaa' (did you mean 'dqa'?); there are "),
        (("a\nb\x1b[31m",), {}, "no method 'a b"),
        ((), {}, "transfer takes one method, or all"),
        (("daq", "ste"), {}, "transfer takes one method, or all"),
        (("fp",), {}, "fp is the float network: it has no quantizers"),
        (("srq",), {"bits": "1"}, "srq has no 1-bit weights; bit-widths it has: 2, "),
        (("daq",), {"bits": "32"}, "bits=32: is float, and has no quantizer"),
        (("daq",), {"bits": "x"}, "bits=x: is no bit-width"),
        (("daq",), {"bits": "²"}, "bits=²: is no bit-width"),
        (("daq",), {"bits": "9" * 5000}, "bits=999"),
        (("rq",), {"bits": "0"}, "rq has no 0-bit weights"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(words, options, message):
    with pytest.raises(UsageError) as found:
        chart(*words, **options)
    assert str(found.value).startswith(message)
    assert str(found.value).isprintable()


def test_the_error_figure_takes_no_words():
    with pytest.raises(UsageError, match="takes no words"):
        make_chart("error", Request(["x"], {}, Path("runs")))
