"""`--to`: where files may lie, and what they may replace."""

import os
from pathlib import Path

import pytest

from qexp.cli.targets import check_replaceable, target_of
from qexp.utils.errors import UsageError


def is_own(content: bytes) -> bool:
    return content.startswith(b"ours")


@pytest.mark.parametrize("name", ["page.html", "PAGE.HTML", "folder/a b.html", "~/page.html", "é.html"])
def test_a_file_in_a_folder_that_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "folder"))
    Path("folder").mkdir()
    assert target_of(name, ("html", "svg")) == Path(name).expanduser()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--to: names nothing"),
        ("page.htm", "--to page.htm: must end in .svg, .html"),
        ("page", "--to page: must end in"),
        (".html", "--to .html: must end in"),
        ("nowhere/page.html", "--to nowhere/page.html: there is no folder nowhere"),
        ("file/page.html", "there is no folder file"),
        (f"{'a' * 300}/page.html", "there is no folder a"),
        ("a\nb.html", r"--to a\\nb.html: holds control characters"),
        ("\x1b[31m.html", "holds control characters"),
        ("~nobody9/page.html", "--to ~nobody9/page.html: Could not determine home directory"),
    ],
)
def test_what_can_be_no_target_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UsageError, match=says):
        target_of(name, ("svg", "html"))


def test_nothing_and_a_file_of_the_command_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    check_replaceable(path, is_own, "qexp report")
    path.write_bytes(b"ours, older")
    check_replaceable(path, is_own, "qexp report")
    (tmp_path / "link.html").symlink_to("page.html")
    check_replaceable(tmp_path / "link.html", is_own, "qexp report")
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == (b"ours, older", [tmp_path / "link.html", path])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.html", "it is there, and not made by qexp report; --to names another"),
        ("empty.html", "it is there, and not made by qexp report"),
        ("folder.html", "it is no regular file"),
        ("pipe.html", "it is no regular file"),
        ("gone.html", "it is a link to what is not there"),
        ("loop.html", "Too many levels of symbolic links"),
        (f"{'a' * 300}.html", "File name too long"),
    ],
)
def test_everything_else_stays(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "empty.html").touch()
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "gone.html").symlink_to("nowhere")
    (tmp_path / "loop.html").symlink_to("loop.html")
    with pytest.raises(UsageError, match=rf"^cannot write .*: ({says})"):
        check_replaceable(tmp_path / name, is_own, "qexp report")
