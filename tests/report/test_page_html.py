"""A page as HTML: its texts stay texts, its policy fits what is in it, and no file of others is replaced."""

import sys
from collections import Counter
from dataclasses import replace

import pytest

from qexp.figures import Chart, Curve, Dots, Panel
from qexp.report.page_content import (
    Cell,
    Commands,
    Content,
    Facts,
    Folded,
    Lines,
    PageSection,
    PageTable,
    Picture,
    Warned,
)
from qexp.report.page_html import TEMPLATES, as_html, is_page, json_for_html
from qexp.utils.errors import UsageError
from support.html_pages import HtmlPage

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "\"' onmouseover=alert(1) x='",
    "{{ 7 * 7 }} {% raw %} &amp; &lt;",
    "]]> </svg> </style>",
]


def content_of(texts: list[str]) -> Content:
    """A page that has each text everywhere a text can be."""
    every = " ".join(texts)
    marks = [
        *(Curve(text, [1, 2], [3, 4]) for text in texts),
        Dots("dots", [1] * len(texts), range(len(texts)), notes=texts),
    ]
    picture = Picture(Chart(every, [Panel(every, every, every, marks, x_names={1: every})]), [every])
    sections = [PageSection(every, [picture])]
    for at, text in enumerate(texts):
        table = PageTable(text, [text, "n"], [[Cell(text, tone="bad"), Cell("1", 1.0)]] * 9, {text: text}, [text], text)
        parts = [
            Facts([(text, text)], text),
            Lines([text]),
            Commands([(text, text)] * 4, [text]),
            Folded(text, text),
            table,
        ]
        sections.append(PageSection(f"{text}{at}", parts))
    pairs = [(text, text) for text in texts]
    warned = [Warned(text, text, [text]) for text in texts]
    return Content(" ".join(texts), " ".join(texts), pairs, warned, sections, pairs)


@pytest.fixture(scope="module")
def hostile() -> HtmlPage:
    return HtmlPage(as_html(content_of(HOSTILE)))


def test_hostile_texts_are_texts(hostile: HtmlPage) -> None:
    tags = {tag for tag, _ in hostile.elements}
    assert not tags & {"img", "raw"}
    harmless = HtmlPage(as_html(replace(content_of(list("abcdef")), sections=content_of(list("abcdef")).sections[1:])))
    ours, theirs = (Counter(tag for tag, _ in page.elements) for page in (hostile, harmless))
    assert all(
        ours[tag] == theirs[tag] for tag in ("script", "style", "td", "th", "p", "pre", "li", "code", "dt", "dd")
    )
    for text in HOSTILE:
        assert hostile.text.count(" ".join(text.split())) > 9 + 9, text  # rows of the table, and all else


def test_hostile_texts_under_the_pointer_are_texts(hostile: HtmlPage) -> None:
    (panel,) = hostile.data[0]["panels"]
    assert [one["label"] for one in panel["series"]] == [*HOSTILE, "dots"]
    assert panel["series"][-1]["notes"] == HOSTILE
    assert not set(hostile.inside["script"][0]) & set("<>&")


def test_the_policy_names_what_is_in_the_page_and_nothing_else(hostile: HtmlPage) -> None:
    hostile.check_policy()
    assert hostile.inside["script"][1] == (TEMPLATES / "page.js").read_text()


def test_no_two_elements_have_the_same_id_and_links_lead_somewhere(hostile: HtmlPage) -> None:
    ids = [own["id"] for _, own in hostile.elements if "id" in own]
    assert len(set(ids)) == len(ids)
    links = [(own["href"] or "")[1:] for _, own in hostile.elements if "href" in own]
    assert links
    assert set(links) <= set(ids)
    clips = [own["clip-path"] for _, own in hostile.elements if "clip-path" in own]
    assert clips
    assert {clip[5:-1] for clip in clips if clip} <= set(ids)


def test_what_no_page_shows_is_replaced() -> None:
    page = as_html(Content("a\x00b\u202ec\ud800d", "one\ntwo", [], [], [], []))
    assert b"<h1>a?b?c?d</h1>" in page
    assert b"one\ntwo" in page


def test_json_cannot_end_its_element_and_reads_the_same() -> None:
    text = json_for_html(["</script>", "<!--", "a & b", "\u2028"])
    assert text == r'["\u003c/script\u003e","\u003c!--","a \u0026 b","\u2028"]'


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"need {library}: pip install 'qexp\[plot\]'"):
        as_html(content_of(["a"]))


def test_a_page_is_known_again_and_nothing_else_is() -> None:
    assert is_page(as_html(Content("t", "s", [], [], [], [])))
    assert not is_page(b"<!doctype html><title>mine</title>")
    assert not is_page(b"")
