"""A run whose layers have bits of their own."""

import json

import pytest
import torch

from qexp.config.identity import with_younger_options
from support.commands import Qexp

WORDS = ("dataset=digits", "model=resnet20", "model.width=0.25", "protocol=smoke", "init=scratch", "device=cpu")


@pytest.mark.training
def test_it_is_trained_recorded_found_and_evaluated(qexp: Qexp, tmp_path) -> None:
    """summary.json has the bits of every layer; the digest is that of `qexp eval`; another choice is another run."""
    words = ("train", *WORDS, "quantizer=ste", "bits=2", 'layer_bits=["layer1.*:weight:1","layer3.*:8"]')
    words = (*words, f"runs_dir={tmp_path}")
    result = qexp(*words)
    assert result.code == 0, result.err
    assert "quantized: 6 W1A2, 6 W2A2, 6 W8A8 of 20 layers" in result.out
    (path,) = tmp_path.rglob("summary.json")
    summary = json.loads(path.read_text())
    bits = summary["layers"]["bits"]
    assert bits["conv1"] == [32, 32]
    assert bits["layer1.0.conv1"] == [1, 2]
    assert bits["layer2.0.conv1"] == [2, 2]
    assert bits["layer3.2.conv2"] == [8, 8]
    assert summary["layers"]["float"] == {"conv1": "keep_float first", "linear": "keep_float last"}
    assert summary["most_weight_levels"] <= 256
    weights = {name: torch.load(path.parent / "last.pt")["model"][f"{name}.weight"].numel() for name in bits}
    stored = sum(count * bits[name][0] / 8 for name, count in weights.items())
    assert stored < summary["weight_kilobytes"] * 1000 < stored + 4 * 1000  # norms and biases besides
    assert "skipped" in qexp(*words).out or "already" in qexp(*words).out
    again = json.loads(qexp("eval", str(path.parent), "--json").out)
    assert (again["codes"], again["top1_hard"]) == (summary["codes"], summary["top1_hard"])


def test_it_is_part_of_what_a_run_computes_only_where_it_says_something(configure) -> None:
    """Keys of runs without it do not move, and a stored configuration that lacks it has none."""
    plain = configure("quantizer=ste", "bits=2")
    assert plain.key == configure("quantizer=ste", "bits=2", "layer_bits=[]").key
    assert "layer_bits" not in plain.identity
    assert plain.key != configure("quantizer=ste", "bits=2", "layer_bits=[layer1.0.conv1:4]").key
    stored = {key: value for key, value in plain.tree.items() if key != "layer_bits"}
    assert with_younger_options(stored)["layer_bits"] == []
    floats = [configure("quantizer=fp", *more).key for more in ((), ("layer_bits=[layer1.0.conv1:4]",))]
    assert floats[0] == floats[1]


def test_bits_that_the_method_does_not_have_are_refused(qexp: Qexp, tmp_path) -> None:
    """Before there is a directory."""
    for entry, message in (
        ("layer1.0.conv1:4", "the grid twn has 2 bits, not 4"),
        ("layer1.0.conv1:0", "layer_bits entry 'layer1.0.conv1:0' is not NAME:BITS"),
    ):
        words = (
            *WORDS,
            "quantizer=ste",
            "quantizer.grid=twn",
            f"layer_bits=[{entry}]",
            f"runs_dir={tmp_path / 'runs'}",
        )
        result = qexp("train", *words)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
    assert not (tmp_path / "runs").exists()
