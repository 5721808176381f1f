"""`qexp report`: which runs or which table, what stands on the page, where it is written."""

import errno
import json
import os
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from qexp.cli import report
from qexp.report import page_charts
from support.commands import Qexp
from support.html_pages import HtmlPage
from support.stored_runs import make


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take half a second each, and have tests of their own, as has the look at the checkout."""
    monkeypatch.setattr(page_charts, "FIGURES", ())
    monkeypatch.setattr(report, "git_state", lambda folder: {"commit": "0a1b2c", "changes": None})


@pytest.fixture
def seeds(workspace: Path) -> dict[str, float]:
    """Six runs, three seeds of each of two methods; hash -> top-1."""
    found = {}
    for at, method in enumerate(("daq", "daq", "daq", "ste", "ste", "ste")):
        key, top1 = "abcdef"[at] * 8, 97.0 + at * at / 7
        summary = {"quantizer": method, "seed": at % 3, "top1_hard": top1, "difference": top1 - 98.056}
        make(f"{method}-w2a2/s{at % 3}-{key}", summary=summary)
        found[key] = top1
    return found


def page_of(qexp: Qexp, *words: str, to: str = "page.html") -> HtmlPage:
    result = qexp("report", *words, "--to", to)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{to}: ")
    found = HtmlPage(Path(to).read_bytes())
    found.check_policy()
    return found


def test_numbers_on_the_page_are_those_of_the_summaries(qexp: Qexp, seeds: dict[str, float]) -> None:
    page = page_of(qexp, "digits")
    assert {row["run"]: row["top-1"] for row in page.table("run")} == {
        key: f"{top1:.2f}" for key, top1 in seeds.items()
    }
    values = list(seeds.values())
    for row, own in zip(page.table("quantizer"), (values[:3], values[3:]), strict=True):
        assert (row["mean"], row["std"], row["n"]) == (f"{fmean(own):.2f}", f"{stdev(own):.2f}", "3")
        assert row["range"] == f"{min(own):.2f} to {max(own):.2f}"
        assert row["to float"] == f"{fmean(own) - 98.056:+.2f}"
        assert row["float"] == "98.06"


def test_a_run_has_a_page_of_its_own(qexp: Qexp, store: dict[str, Path]) -> None:
    result = qexp("report", "abcdefgh")
    assert (result.code, result.out.partition(": ")[0]) == (0, "report-abcdefgh.html")
    page = HtmlPage(Path("report-abcdefgh.html").read_bytes())
    assert "daq W2A2, resnet18 x0.25 on digits, seed 0" in page.texts
    assert "digits/resnet18/daq-w2a2/s0-abcdefgh" in page.texts
    assert "98.61 %" in page.texts
    assert "+0.56 points" in page.texts


def test_a_directory_names_a_run_wherever_it_lies(qexp: Qexp, store: dict[str, Path], tmp_path: Path) -> None:
    store["daq"].rename(tmp_path / "alone")
    page = page_of(qexp, str(tmp_path / "alone"))
    assert "98.61 %" in page.texts


def test_runs_that_ended_badly_are_warned_of_and_count_in_no_mean(qexp: Qexp, store: dict[str, Path]) -> None:
    page = page_of(qexp, "digits")
    assert [row["n"] for row in page.table("quantizer")] == ["1"]
    for text in ("the disk is full", "loss is nan in step 3", "bbbbbbbb at 7/20"):
        assert text in page.text
    assert [row["state"] for row in page.table("run")] == ["diverged", "done", "interrupted", "failed"]


def test_states_choose_runs(qexp: Qexp, store: dict[str, Path]) -> None:
    page = page_of(qexp, "--state", "failed,diverged")
    assert [row["run"] for row in page.table("run")] == ["dddddddd", "cccccccc"]


def test_no_place_and_no_name_of_the_machine_is_on_the_page(
    qexp: Qexp, store: dict[str, Path], workspace: Path
) -> None:
    message = f"cannot read {workspace}/runs/x and {workspace}/y and {Path.home()}/z"
    status = {"state": "failed", "message": message, "host": "secret-host", "pid": 1}
    (store["ste"] / "status.json").write_text(json.dumps(status))
    for path in store.values():
        (path / "env.json").write_text(json.dumps({"hostname": "secret-host", "python": "3"}))
        with (path / "config.yaml").open("a") as file:
            file.write(f"runs_dir: {workspace}/runs\ndata_dir: /secret-data\n")
    for words in (["digits"], ["cccccccc"]):
        content = page_of(qexp, *words, "--runs-dir", str(workspace / "runs")).text
        assert str(workspace) not in content
        assert "secret" not in content
        assert "cannot read x and ./y and ~/z" in content


def test_a_table_has_the_papers_numbers_and_its_protocol(qexp: Qexp) -> None:
    page = page_of(qexp, "dqa/1")
    rows = page.table("row")
    assert (len(rows), rows[0]["paper"], rows[0]["state"]) == (28, "95.2", "not run")
    assert "300" in page.texts
    assert "qexp table dqa/1 --run" in page.texts


def test_options_of_a_table_are_those_of_qexp_table(qexp: Qexp) -> None:
    words = ("dqa/1", "--rows", "c10_*", "--protocol", "smoke", "--seeds", "0,1", "recipe.epochs=2")
    page = page_of(qexp, *words)
    assert len(page.table("row")) == 14
    assert "qexp table dqa/1 recipe.epochs=2 --protocol smoke --rows 'c10_*' --seeds 0,1 --run" in page.texts
    assert "ours - float" in page.texts


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "of what? a run, words as `qexp runs` takes them, or a table"),
        (("nosuch",), "'nosuch': no run in runs has that in its path"),
        (("digits", "seed=9"), "no such runs in runs"),
        (("nothing=1",), "no run in runs has 'nothing'"),
        (("digits", "--state", "gone"), "--state gone: must be running,"),
        (("digits", "--rows", "a"), "--rows goes with a table, not with runs"),
        (("dqa/1", "--state", "done"), "--state goes with runs, not with a table"),
        (("dqa/1", "digits"), "dqa/1 is a table, and stands alone"),
        (("dqa/1", "daq/1"), "dqa/1 is a table, and stands alone"),
        (("dqa/1", "--protocol", "long"), "--protocol long: no such protocol"),
        (("dqa/1", "--seeds", "x"), "--seeds x: must be different whole numbers"),
        (("dqa/1", "--rows", "x"), "--rows x: no such row"),
        (("dqa/1", "seed=1"), "seed=1: --seeds names the seeds"),
        (("digits", "--to", ""), "--to: names nothing"),
        (("digits", "--to", "page.pdf"), "--to page.pdf: must end in .html"),
        (("digits", "--to", "mine.html"), "cannot write mine.html: it is there, and not made by qexp report"),
        (("digits", "--config-dir", "nowhere"), "--config-dir nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    qexp: Qexp, store: dict[str, Path], words: tuple[str, ...], says: str
) -> None:
    Path("mine.html").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.name != "lock"}
    result = qexp("report", *words)
    assert (result.code, result.out, len(result.errors)) == (2, "", 1), result.err
    assert says in result.err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.name != "lock"} == before


def test_a_name_that_is_a_table_and_names_runs_is_refused(qexp: Qexp, workspace: Path) -> None:
    run = Path("runs/dqa/1/daq-w2a2/s0-abcdefgh")
    run.parent.mkdir(parents=True)
    make("daq-w2a2/s0-abcdefgh").rename(run)
    result = qexp("report", "dqa/1")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "'dqa/1' is a table, and names runs in runs as well" in result.err


def test_too_many_runs_are_refused(qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_RUNS", 3)
    result = qexp("report", "digits")
    assert (result.code, "4 runs: a page takes at most 3; add words or filters" in result.err) == (2, True)


def test_a_disk_that_is_full_leaves_the_page_before(
    qexp: Qexp, store: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page_of(qexp, "digits")
    before = Path("page.html").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        result = qexp("report", "abcdefgh", "--to", "page.html")
    assert (result.code, "No space left" in result.err) == (1, True)
    assert Path("page.html").read_bytes() == before
    assert {path.name for path in Path().iterdir()} == {"runs", "page.html"}
    page_of(qexp, "abcdefgh")
    assert Path("page.html").read_bytes() != before
