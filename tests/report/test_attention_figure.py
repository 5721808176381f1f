"""`attention`: from what a run wrote of its layers."""

import json
import shutil

import pytest

from qexp.report.catalogue import Request, make_chart
from qexp.utils.errors import UsageError


def chart(path, **options):
    return make_chart("attention", Request([str(path)], options, path.parents[3]))


def test_it_shows_what_the_layers_reported(sweep):
    path = sweep.run("dqa")
    lines = [json.loads(line)["values"] for line in (path / "layers.jsonl").read_text().splitlines()]
    shares, mixed, lowest = chart(path).panels
    name = "layer1.0.conv1"
    assert shares.title == f"{name}: share of each grid"
    for k, mark in enumerate(shares.marks):
        assert list(mark.y) == [values[f"{name}/weight/attention_{k}"] for values in lines]
    assert [mark.label for mark in mixed.marks] == ["epoch 0", "epoch 1", "epoch 2"]
    layers = {key.partition("/")[0] for key in lines[0] if key.endswith("/weight/attention_0")}
    assert {mark.note for mark in lowest.marks} == layers
    assert chart(path, layer="layer3.2.conv2").panels[0].title == "layer3.2.conv2: share of each grid"


def test_what_cannot_be_drawn_is_one_line(sweep, tmp_path):
    with pytest.raises(UsageError, match="has neither attention nor learned bit-widths in its layers.jsonl"):
        chart(sweep.run("daq"))
    with pytest.raises(UsageError, match=r"layer=nix: mixes no grids; there are layer1.0.conv1, "):
        chart(sweep.run("dqa"), layer="nix")
    shutil.copytree(sweep.store, tmp_path / "runs")
    path = tmp_path / "runs" / sweep.run("dqa").relative_to(sweep.store)
    file = path / "layers.jsonl"
    whole = file.read_text().splitlines()
    nothing = '{"epoch": 1, "values": {"layer1.0.conv1/weight/attention_0": null}}'
    for content in ("", "{", '{"epoch": 1, "values": [1]}', nothing):
        file.write_text(content)
        with pytest.raises(UsageError, match="has neither attention nor"):
            chart(path)
    file.write_text(f"{whole[0]}\n[\n{whole[2]}\n{whole[1][:99]}")  # the last line was cut, another is none
    assert list(chart(path).panels[0].marks[0].x) == [0, 2]
    file.unlink()
    with pytest.raises(UsageError, match=r"has no layers.jsonl: it was trained before"):
        chart(path)
