"""Pickles that would build more than can be meant are known before they are loaded."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from qexp.engine import pickles as module
from qexp.engine.pickles import too_much
from qexp.engine.weights import load_file
from qexp.utils.errors import UsageError
from support.limits import within

STORED = sorted((Path(__file__).parents[1] / "data" / "store").rglob("*.pt"))
SHARED = b"\x80\x02}" + b")q\0" + b"h\0\x86q\0" * 40 + b"K\x01s."  # a key whose hash takes 2**40 steps
DEEP = b"\x80\x02)" + b"\x85" * 200_000 + b"."
FOUND = {
    "a shared tuple as a key": (SHARED, "those that are shared counted as often as they occur"),
    "shared lists": (b"\x80\x02]q\0" + b"]h\0ah\0aq\0" * 40 + b".", "counted as often as they occur"),
    "shared dicts": (b"\x80\x02}q\0" + b"}K\0h\0sK\1h\0sq\0" * 40 + b".", "counted as often as they occur"),
    "shared, and thrown away": (b"\x80\x02)q\0" + b"h\0\x86q\0" * 40 + b"0N.", "counted as often as they occur"),
    "tuples in tuples": (DEEP, "nested deeper than 200"),
    "lists in lists": (b"\x80\x02" + b"]" * 300 + b"a" * 299 + b".", "nested deeper than 200"),
    "a list in itself": (b"\x80\x02]q\0h\0a.", "holds itself"),
    "too long": (b"\x80\x02" + b"N0" * 600_000 + b"N.", "more than 1,000,000 steps"),
    "the end missing": (SHARED[:-1], "counted as often as they occur"),
}


def archive(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)
        file.writestr("a/version", "3")
    return path


@pytest.mark.parametrize("is_archive", [False, True], ids=["raw", "archive"])
@pytest.mark.parametrize("name", FOUND)
def test_what_is_too_much_is_told_and_not_loaded(tmp_path: Path, name: str, is_archive: bool) -> None:
    data, reason = FOUND[name]
    path = tmp_path / "a.pt"
    _ = archive(path, data) if is_archive else path.write_bytes(data)
    with within(20), pytest.raises(UsageError, match=reason):
        load_file(path)


def test_the_second_pickle_of_an_old_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(pickle.dumps(7, protocol=2) + DEEP)
    assert "nested deeper" in str(too_much(tmp_path / "old.pt"))


@pytest.mark.parametrize("data", [b"", b"junk", b"\x80\x02", b"\x80\x02a.", b"\x80\x02h\5."], ids=repr)
def test_what_is_no_pickle_is_left_to_torch(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(data)
    assert too_much(tmp_path / "a.pt") is None
    with pytest.raises(UsageError):
        load_file(tmp_path / "a.pt")


@pytest.mark.parametrize("new", [True, False])
def test_what_torch_writes_passes(tmp_path: Path, new: bool) -> None:
    shared = torch.randn(3)
    values = {"model": {str(number): torch.randn(2, 2) for number in range(300)}, "a": [shared, shared], "b": (1, "x")}
    torch.save(values, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert too_much(tmp_path / "a.pt") is None
    assert all(too_much(path) is None for path in STORED)
    assert STORED


@pytest.mark.parametrize(
    ("value", "depth"),
    [((), 1), (((),), 2), ([[1], 2], 3), ({"a": {"b": (1,)}}, 4), ("text", 1), ({1: (2, (3,))}, 4)],
    ids=str,
)
def test_depth_is_that_of_the_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: Any, depth: int) -> None:
    for protocol in (0, 2, 4):
        (tmp_path / "a").write_bytes(pickle.dumps(value, protocol=protocol))
        monkeypatch.setattr(module, "DEEPEST", depth)
        assert too_much(tmp_path / "a") is None
        monkeypatch.setattr(module, "DEEPEST", depth - 1)
        assert too_much(tmp_path / "a") is not None
