"""README's snippets are carried out, so that they stay true."""

import re
from pathlib import Path

import pytest
import torch

from qexp.config.places import conf_dir
from qexp.quantizers import quantize, quantized_layers
from support.pages import ROOT, blocks, section

README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 160


def test_library_use_runs():
    """A torchvision model is quantized and trained on in ten lines, without any configuration."""
    (code,) = blocks(section(README, "Library use"), "python")
    assert len(code.strip().splitlines()) <= 10
    names: dict = {}
    exec(compile(code, "README", "exec"), names)
    assert torch.isfinite(names["loss"])
    names["loss"].backward()
    layer = names["model"].layer1[0].conv1
    assert len(layer.weight_quantizer(layer.weight).unique()) == 4
    assert layer.weight.grad.abs().sum() > 0


def test_a_quantizer_of_your_own_runs():
    """Two dozen lines of torch and the base classes alone; hard values are levels, the gradient passes unchanged."""
    (code,) = blocks(section(README, "A quantizer of your own"), "python")
    assert set(re.findall(r"^(?:from|import) (\S+)", code, re.MULTILINE)) == {
        "dataclasses",
        "torch",
        "qexp.quantizers.base",
    }
    names: dict = {"__name__": "readme"}
    exec(compile(code, "README", "exec"), names)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    quantize(model, names["Mine"](), weight_bits=2, activation_bits=4, keep_float=[])
    images = torch.randn(2, 3, 8, 8)
    for _, layer in quantized_layers(model):
        layer.calibrate(images if layer.in_channels == 3 else images[:, :1].repeat(1, 4, 1, 1))
        weight = layer.weight_quantizer(layer.weight)
        codes, levels = layer.weight_quantizer.codes(layer.weight)
        assert torch.equal(weight, levels[codes.long()])
        assert 2 <= len(weight.unique()) <= 4
        assert levels.abs().max() == layer.weight.abs().max()
    upstream = torch.randn_like(weight)
    (weight * upstream).sum().backward()
    assert torch.equal(layer.weight.grad, upstream)
    assert model(images).shape == (2, 2, 4, 4)


def test_the_example_of_a_wrong_command_is_what_is_printed(tmp_path, monkeypatch, capsys):
    """README shows the exact lines."""
    from qexp.cli.main import main

    monkeypatch.chdir(tmp_path)
    shown = next(block for block in blocks(README, "text") if block.startswith("$ qexp train quantiser"))
    command, _, expected = shown.partition("\n")
    assert main(command.split()[2:]) == 2
    assert capsys.readouterr().err == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", ["dataset", "model", "quantizer", "protocol"])
def test_the_table_of_groups_is_complete(group):
    """Every choice that exists is named in README."""
    row = re.search(rf"^\| `{group}` \|([^|]*)\|", README, re.MULTILINE)[1]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def test_every_page_can_be_reached_from_it():
    """What stands in docs/ is linked here, or from a page that is."""
    pages = {path.relative_to(ROOT).as_posix() for path in Path(ROOT / "docs").glob("*.md")}
    assert pages - set(re.findall(r"\]\((docs/\w+\.md)\)", README)) == set()
