"""Reports in headless Chromium: nothing is asked for or complained of, tables sort and filter, texts stay texts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from qexp.config.compose import composing
from qexp.config.places import conf_dir
from qexp.config.yaml_files import to_yaml
from qexp.runs import write_status
from qexp.tables import OWN, TableRequest, join
from support.browser import Browser, browsing, chromium
from support.commands import call
from support.stored_runs import SUMMARY, make

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
]

IMAGE, SCRIPT = "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"
ROWS = "[...document.querySelectorAll('#runs ~ .table tbody tr')]"
CELLS = "[...document.querySelectorAll('#runs ~ .table tbody tr')].map(row => row.cells[{}].textContent)"
PAGES = ("sweep", "run", "table", "empty")


def run_rows(table: str, rows: str) -> None:
    """Make finished runs of rows of a table, written by hand, at 90 % and more."""
    with composing() as composer:
        joined = join(conf_dir() / "paper", table, TableRequest(rows, None, OWN, ()), composer)
    for at, run in enumerate(run for line in joined.lines for run in line.runs):
        run.path.mkdir(parents=True)
        (run.path / "config.yaml").write_text(to_yaml(run.config.tree))
        write_status(run.path, "done", "")
        tree = {**SUMMARY, "key": run.config.key, "quantizer": run.path.parent.name.partition("-")[0]}
        tree |= {"protocol": run.config.protocol, "model": "resnet18", "dataset": "cifar10", "top1_hard": 90 + at / 4}
        tree |= {"weight_kilobytes": 100.0, "float_weight_kilobytes": 1000.0}
        (run.path / "summary.json").write_text(json.dumps(tree))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pages of twelve runs and a hostile one, of a run, of a table with some, and of one without any."""
    place = tmp_path_factory.mktemp("pages")
    before = Path.cwd()
    os.chdir(place)
    try:
        with mock.patch.dict(os.environ, {"QEXP_RUNS": "runs"}):
            for at in range(12):
                method = ("ste", "br", "dqa", "daq")[at % 4]
                top1 = 90 + (at * 7 % 12) / 2
                make(f"{method}-w2a2/s{at // 4}-{'abcdefghijkl'[at] * 8}", epochs=5, summary={"top1_hard": top1})
            make(f"{IMAGE}-w2a2/s0-zzzzzzzz", "failed", message=SCRIPT)
            assert call("report", "digits", "--to", "sweep.html") == 0
            assert call("report", "aaaaaaaa", "--to", "run.html") == 0
            run_rows("dqa/1", "c10_fp,c10_minmax*,c10_twn248_dqa")
            assert call("report", "dqa/1", "--to", "table.html") == 0
            assert call("report", "rq/1", "--to", "empty.html") == 0
        yield place
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    with browsing(folder / "profile") as found:
        yield found


@pytest.fixture
def sweep(browser: Browser, folder: Path) -> Browser:
    browser.size(1200)
    browser.open(folder / "sweep.html")
    return browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_nothing_to_the_console_and_asks_for_nothing(browser: Browser, folder: Path, name: str) -> None:
    browser.said.clear()
    browser.asked.clear()
    browser.open(folder / f"{name}.html")
    assert browser.run("Array.isArray(pictures)")  # the script is at work
    assert browser.run("getComputedStyle(document.querySelector('.key')).display") == "flex"  # and the style
    assert browser.said == []
    assert browser.asked == [(folder / f"{name}.html").as_uri()]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_is_as_wide_as_its_window(browser: Browser, folder: Path, name: str, width: int) -> None:
    browser.size(width)
    browser.open(folder / f"{name}.html")
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_a_hostile_name_is_a_text(sweep: Browser) -> None:
    assert sweep.run("document.querySelectorAll('img').length") == 0
    assert sweep.run(f"document.body.innerText.includes({json.dumps(IMAGE)})")
    assert sweep.run(f"document.querySelector('.warnings').innerText.includes({json.dumps(SCRIPT)})")
    assert sweep.run("document.scripts.length") == 2


def test_a_header_sorts_its_column_by_numbers_both_ways_and_back(sweep: Browser) -> None:
    heads = sweep.run("[...document.querySelectorAll('#runs ~ .table th')].map(one => one.textContent)")
    at = heads.index("top-1")
    before = sweep.run(CELLS.format(at))
    numbers = [float(text) for text in before if text != "–"]
    click = f"document.querySelectorAll('#runs ~ .table th button')[{at}].click()"
    state = f"document.querySelectorAll('#runs ~ .table th')[{at}].getAttribute('aria-sort')"
    assert numbers != sorted(numbers, reverse=True)
    for order, reverse in (("descending", True), ("ascending", False)):
        sweep.run(click)
        assert sweep.run(state) == order
        assert [float(text) for text in sweep.run(CELLS.format(at))[:-1]] == sorted(numbers, reverse=reverse)
        assert sweep.run(CELLS.format(at))[-1] == "–"  # what has no number is last
    sweep.run(click)
    assert (sweep.run(state), sweep.run(CELLS.format(at))) == ("none", before)


def test_a_filter_leaves_the_rows_that_hold_all_its_words(sweep: Browser) -> None:
    def type_in(text: str) -> list[str]:
        sweep.run(
            f"(box => {{ box.value = {json.dumps(text)}; box.dispatchEvent(new Event('input')); }})"
            "(document.querySelector('#runs ~ .table input'))"
        )
        return sweep.run(f"{ROWS}.filter(row => row.offsetParent !== null).map(row => row.cells[0].textContent)")

    assert type_in("DAQ done") == ["dddddddd", "hhhhhhhh", "llllllll"]
    assert sweep.run("document.querySelector('#runs ~ .table .count').textContent") == "3 of 13 runs"
    assert type_in(IMAGE) == ["zzzzzzzz"]
    assert len(type_in("")) == 13


def test_values_are_shown_under_the_pointer_and_by_keys(sweep: Browser) -> None:
    sweep.run("document.querySelector('.canvas').scrollIntoView({block: 'center'})")
    place = "(own => [own.left, own.top, own.width, own.height])"
    box = sweep.run(f"{place}(document.querySelector('.canvas svg').getBoundingClientRect())")
    left, top, width, height = sweep.run("pictures[0].panels[0].box")
    sweep.move(box[0] + (left + width / 2) * box[2], box[1] + (top + height / 2) * box[3])
    assert sweep.run("document.querySelector('.canvas .tip').hidden") is False
    told = sweep.run("document.querySelector('.canvas .tip').innerText")
    sweep.move(1, 1)
    assert sweep.run("document.querySelector('.canvas .tip').hidden") is True
    sweep.run("document.querySelector('.canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    assert sweep.run("document.querySelector('.canvas .tip').hidden") is False
    assert told.strip()
    assert sweep.said == []


def test_the_dark_is_dark_and_its_ink_light(browser: Browser, folder: Path) -> None:
    found = {}
    for is_dark in (False, True):
        browser.size(1200, is_dark=is_dark)
        browser.open(folder / "sweep.html")
        colours = [browser.run(f"getComputedStyle(document.querySelector('{one}')).{key}") for one, key in _COLOURS]
        found[is_dark] = [sum(map(int, colour[4:-1].split(","))) for colour in colours]
    assert all(light > 600 for light in (found[False][0], *found[True][1:])), found
    assert all(dark < 150 for dark in (found[True][0], *found[False][1:])), found


def test_no_number_is_broken_in_print(browser: Browser, folder: Path) -> None:
    browser.size(400)
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        browser.open(folder / "sweep.html")
        lines = browser.run(
            "[...document.querySelectorAll('#runs ~ .table td.n')].map(cell => { const text = document.createRange();"
            " text.selectNodeContents(cell); return new Set([...text.getClientRects()].map(one => one.top)).size; })"
        )
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")
    assert set(lines) == {1}


_COLOURS = (("body", "backgroundColor"), ("h1", "color"), (".chart text", "fill"), (".s-c0", "stroke"))


def test_a_row_of_a_table_with_runs_has_the_papers_number_ours_and_the_difference(
    browser: Browser, folder: Path
) -> None:
    """DQA's Table 1; the runs are listed below."""
    browser.size(1200)
    browser.open(folder / "table.html")
    heads, *rows = browser.run(
        "[...document.querySelectorAll('.table table')[0].rows].map(row => [...row.cells].map(one => one.textContent))"
    )
    found = [dict(zip(heads, row, strict=True)) for row in rows]
    ours = {row["row"]: (row["paper"], row["ours"], row["n"], row["ours - paper"]) for row in found if row["n"] != "0"}
    assert ours == {
        **{"c10_fp": ("95.2", "90.00", "1", "-5.20"), "c10_minmax2": ("91.5", "90.25", "1", "-1.25")},
        **{"c10_minmax2_br_fp": ("93.0", "90.50", "1", "-2.50"), "c10_minmax248_br": ("93.7", "90.75", "1", "-2.95")},
        **{"c10_minmax248_dqa": ("94.8", "91.00", "1", "-3.80"), "c10_twn248_dqa": ("94.8", "91.25", "1", "-3.55")},
    }
    assert browser.run("document.querySelectorAll('#runs ~ .table tbody tr').length") == 6
