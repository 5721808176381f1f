"""`layer_bits=RUN`: the widths of a run, spelled out, or one line that says why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from qexp import runs
from qexp.config.config import parse_config, recorded_config
from qexp.config.identity import float_parent
from qexp.config.run_widths import exactly
from qexp.config.schema import Invalid
from qexp.config.yaml_files import to_yaml
from qexp.quantizers.layer_bits import choose_bits
from support.commands import Configure
from support.trees import changed

BITS = {"conv1": [32, 32], "layer1.0.conv1": [3, 4], "linear": [32, 8]}
SPELLED = (
    *("conv1:weight:32", "conv1:input:32", "layer1.0.conv1:weight:3", "layer1.0.conv1:input:4"),
    *("linear:weight:32", "linear:input:8"),
)


@pytest.fixture
def other(configure: Configure, workspace: Path) -> Path:
    """The directory of a finished run of the network that the default command has."""
    config = configure("quantizer=dqa", "bits=4", "seed=3")
    path = runs.run_directory(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config.tree))
    runs.write_status(path, "done")
    write(path)
    return path


def write(path: Path, **more: Any) -> None:
    summary = {"quantizer": "dqa", "layers": {"bits": BITS}, **more}
    (path / "summary.json").write_text(json.dumps(summary))


def test_all_spellings_of_a_run_are_one_list_and_one_key(configure: Configure, other: Path) -> None:
    """The hash, its beginning, the directory in several spellings, and the list itself."""
    key = other.name.partition("-")[2]
    spellings = (key, key[:4], str(other), f"{other}/", str(other.absolute()), f"[{','.join(SPELLED)}]")
    found = [configure("quantizer=ste", "bits=4", f"layer_bits={text}") for text in spellings]
    assert {one.layer_bits for one in found} == {SPELLED}
    assert len({one.key for one in found}) == 1
    assert [one.widths_of for one in found] == [*spellings[:5], None]
    assert all(one == found[0] for one in found)
    assert found[0].key != configure("quantizer=ste", "bits=4").key


def test_a_record_has_the_list_and_needs_the_run_no_longer(configure: Configure, other: Path) -> None:
    config = configure("quantizer=ste", "bits=4", f"layer_bits={other}")
    (other / "summary.json").unlink()
    assert config.tree["layer_bits"] == list(SPELLED)
    again = recorded_config(config.tree)
    assert (again.key, again.layer_bits, again.widths_of) == (config.key, SPELLED, None)
    with pytest.raises(Invalid, match="layer_bits=abc: expected a list"):
        recorded_config(changed(config.tree, "layer_bits", "abc"))


def test_a_float_net_has_none(configure: Configure, other: Path) -> None:
    """Neither one in the same sweep nor the one that a run starts from."""
    assert configure("quantizer=fp", f"layer_bits={other}").key == configure("quantizer=fp").key
    config = configure("quantizer=ste", "bits=4", f"layer_bits={other}")
    assert parse_config(float_parent(config.tree)).key == configure("quantizer=fp").key


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"quantizer": "fp", "layers": None}, "that run is of a float net, whose layers have no bits"),
        ({"layers": None}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": [["conv1", 3, 4]]}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"conv1": [3]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"conv1": [3, 9]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"conv1": [3, 4.0]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"conv1": [True, 4]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"a:b": [3, 4]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {"a\x1b[31m": [3, 4]}}}, "does not tell the bits of each layer"),
        ({"layers": {"bits": {f"layer{at}": [3, 4] for at in range(10_001)}}}, "does not tell the bits of each layer"),
    ],
)
def test_a_summary_that_tells_no_widths_is_refused(raw: Any, other: Path, summary: Any, message: str) -> None:
    write(other, **summary)
    assert problems(raw, str(other)) == [f"layer_bits={other}: {one}: {other}" for one in told(message)]


def told(message: str) -> list[str]:
    return [f"its summary.json {message}" if message.startswith("does") else message]


def problems(raw: Any, text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_config({**raw, "layer_bits": text})
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_a_run_without_a_result_is_refused(raw: Any, other: Path, state: Any) -> None:
    """Also where it has one of an earlier training, as `qexp runs` shows none of it."""
    runs.write_status(other, state)
    assert problems(raw, str(other)) == [f"layer_bits={other}: that run has no result, and so no widths: {other}"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (17 * 2**20)])
def test_a_summary_that_cannot_be_read_is_none(raw: Any, other: Path, content: bytes) -> None:
    (other / "summary.json").write_bytes(content)
    assert problems(raw, str(other)) == [f"layer_bits={other}: that run has no result, and so no widths: {other}"]


@pytest.mark.parametrize("content", ["", "3", "model: 3", "model: {name: [}", "seed: 1", "a: " + "[" * 99])
def test_a_configuration_that_cannot_be_read_is_refused(raw: Any, other: Path, content: str) -> None:
    (other / "config.yaml").write_text(content)
    (line,) = problems(raw, str(other))
    assert line.startswith(f"layer_bits={other}: ")
    assert "config.yaml" in line


def test_what_names_no_run_says_both_forms(raw: Any, workspace: Path) -> None:
    for text in ("abcdefgh", "", "layer1.*:4", "x" * 5000, "~nobody/x", "\0"):
        (line,) = problems(raw, text)
        assert line.startswith("layer_bits=")
    (line,) = problems(raw, "layer1.*:4")
    assert line.startswith('layer_bits=layer1.*:4: must be a list such as ["layer1.*:4"], or a finished run; no run')


def test_a_run_of_another_network_is_refused_and_the_option_named(raw: Any, other: Path) -> None:
    """Weights that it began with make no other network."""
    (line,) = problems(changed(raw, "model.width", 0.5), str(other))
    assert f"that run is of another network: model.width=0.25 there, 0.5 here ({other})" in line
    (line,) = problems(changed(raw, "model.name", "resnet20"), str(other))
    assert "model=resnet18 there, resnet20 here" in line
    tree = {**raw, "model": {**raw["model"], "digest": "abcdefghijklmnop"}, "layer_bits": str(other)}
    assert parse_config(tree).layer_bits == SPELLED


def test_all_that_is_wrong_is_said_at_once(raw: Any, other: Path) -> None:
    write(other, layers=None)
    assert len(problems(changed(raw, "seed", -1), str(other))) == 2


def test_a_name_is_meant_as_it_is() -> None:
    """Layers that are called as a word or a pattern of layer_bits."""
    names = ["a", "first", "b*", "b[0]", "bc", "last", "c?", "last.x", ""]
    for name in names:
        (entry,) = [f"{exactly(name)}:weight:3"]
        found = choose_bits(names, (2, 2), (), [entry])
        assert [one for one, choice in found.items() if choice.bits == (3, 2)] == [name]
