"""YAML of others: its size, its depth, and what it would make Hydra do while it composes."""

import os
from pathlib import Path

import pytest

from qexp.config.yaml_files import DEEPEST, Unsafe, check_file, excess, load_yaml, order
from qexp.utils.errors import UsageError
from support.commands import Qexp, refused
from support.limits import within

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
TOO_MUCH = {
    "aliases that multiply": (LAUGHS, "holds more than 100,000 values"),
    "keys that multiply": (LAUGHS.replace("[x", "[{k: x}").replace("a11: &a11 [", "<<: ["), "holds more than 100,000"),
    "many values": ("a: [" + "1, " * 100_000 + "1]", "holds more than 100,000 values"),
    "deep brackets": ("a: " + "[" * 50_000, "is nested deeper than 50 levels"),
    "deep maps": ("{a: " * 50_000, "is nested deeper than 50 levels"),
    "deep dashes": ("- " * 50_000, "is nested deeper than 50 levels"),
    "itself": ("a: &a [*a]", "*a stands for nothing, or for what it is a part of"),
}


@pytest.mark.parametrize(("text", "said"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_more_than_can_be_meant_is_refused_wherever_yaml_is_read(
    qexp: Qexp, conf: Path, tmp_path: Path, text: str, said: str
) -> None:
    """The deep ones end Python itself where its YAML parser meets them."""
    with within(20):
        assert str(excess(text)).startswith(said)
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UsageError, match="config.yaml: "):
            load_yaml(tmp_path / "config.yaml")
        (conf / "other.yaml").write_text(text)
        (line,) = refused(qexp, "--config-dir", str(conf), "--config-name=other")
    assert line.startswith(f"{conf}/other.yaml: {said}")


def test_what_is_not_asked_for_may_say_what_it_likes(qexp: Qexp, conf: Path) -> None:
    (conf / "compose.yaml").write_text("image: ${TAG:-latest}\nsearchpath: x\n")
    assert qexp("train", "--config-dir", str(conf), "quantizer=mine", "--dry-run").code == 0


WAYS_AROUND = {
    "another version of YAML": ("mine", {"mine.yaml": "%YAML 1.3\n---\ndefaults: [train, _self_]\nORDER"}),
    "a link to a folder": ("sub/mine", {"../outside/mine.yaml": "ORDER"}),
    "a folder beside": ("mine", {"mine.yaml": "defaults: [train, ../outside/o, _self_]", "../outside/o.yaml": "ORDER"}),
    "an absolute path": ("mine", {"mine.yaml": "defaults: [train, /OUTSIDE/o, _self_]", "../outside/o.yaml": "ORDER"}),
}


@pytest.mark.parametrize(("name", "files"), WAYS_AROUND.values(), ids=WAYS_AROUND.keys())
def test_there_is_no_way_around(
    qexp: Qexp, conf: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, str]
) -> None:
    outside = conf.parent / "outside"
    outside.mkdir()
    (conf / "sub").symlink_to(outside)
    (outside / "trespasser.py").write_text(f"open({str(conf / 'trace')!r}, 'w')")
    monkeypatch.syspath_prepend(str(outside))
    for file, text in files.items():
        order = "hydra: {searchpath: ['pkg://trespasser']}"
        (conf / file).write_text(text.replace("ORDER", order).replace("OUTSIDE", str(outside)) + "\n")
    result = qexp("train", "--config-dir", str(conf), f"--config-name={name}", "--dry-run")
    assert (result.code, len(result.errors)) == (2, 1), result.err
    assert not (conf / "trace").exists()


def test_anchors_that_repeat_little_are_data(tmp_path: Path) -> None:
    text = "a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n"
    (tmp_path / "x.yaml").write_text(text)
    assert excess(text) is None
    assert load_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}
    assert excess("a: " + "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2)) is None


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {searchpath: ['pkg://intruder']}",
        'hydra: {"search\\u0070ath": [x]}',
        "a: ${oc.decode:'{searchpa${b}: [pkg://intruder]}'}",
        "a: ${${b}:x}",
        "a: ${oc.env:HOME}",
        "${now:%Y}: 1",
    ],
)
def test_an_order_to_hydra_is_none_of_a_files(text: str) -> None:
    assert order(text) is not None


def test_a_pipe_among_the_files_does_not_block(conf: Path) -> None:
    os.mkfifo(conf / "pipe.yaml")
    with within(5), pytest.raises(Unsafe, match="cannot be read"):
        check_file(conf / "pipe.yaml", conf)


def test_a_yaml_file_that_is_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(2**31)
    with within(5), pytest.raises(OSError, match="larger than"):
        load_yaml(path)
