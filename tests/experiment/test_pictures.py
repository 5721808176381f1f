"""Pictures of a training that has ended."""

import importlib.util
import json

import pytest
import torch
from torch import nn

from qexp.experiment.pictures import run_pictures
from qexp.quantizers import calibrate, quantize
from support import methods


def network(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    quantize(model, methods.method(name), 3, 3)
    calibrate(model, torch.randn(4, 1, 6, 6))
    return model


def refuse(text):
    pytest.fail(text)


@pytest.mark.parametrize(
    ("name", "report", "expected"),
    [
        ("ste", "{}", ["transfer", "weights"]),
        ("dqa", json.dumps({f"0/weight/attention_{k}": 1 / 3 for k in range(3)}), ["attention"]),
        ("dropbits learn_bits=true", '{"0/weight/bits": 3}', ["bits"]),
    ],
)
def test_there_is_a_picture_of_each_kind(name, report, expected, tmp_path):
    (tmp_path / "layers.jsonl").write_text(f'{{"epoch": 1, "values": {report}}}\n')
    model = network(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = run_pictures(model, tmp_path, refuse)
    assert list(found) == [f"figures/{own}" for own in dict.fromkeys(["transfer", "weights", *expected])]
    assert all(content.startswith(b"\x89PNG") for content in found.values())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_without_quantizers_has_none(tmp_path):
    assert run_pictures(nn.Linear(2, 2), tmp_path, refuse) == {}


def test_without_matplotlib_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("qexp.experiment.pictures.find_spec", lambda name: None)
    assert run_pictures(network("ste"), tmp_path, refuse) == {}


def test_what_goes_wrong_is_one_line_and_no_more(tmp_path):
    model, told = network("ste"), []
    model[0].weight_quantizer.forward = None
    assert run_pictures(model, tmp_path, told.append) == {}
    (line,) = told
    assert line.startswith("warning: no pictures in TensorBoard (TypeError: ")
