"""State dicts: fit whole or are refused by name, and hold tensors only."""

import os
import zipfile

import pytest
import torch
import torchvision
from torch import nn

from qexp.engine import weights
from qexp.utils.errors import UsageError
from support.limits import within


def test_loading_names_what_does_not_fit():
    """Missing and unexpected keys and other shapes, in one line."""
    state = nn.Linear(4, 3).state_dict() | {"extra": torch.zeros(1)}
    del state["bias"]
    state["weight"] = torch.zeros(3, 5)
    with pytest.raises(
        UsageError, match=r"missing: bias; unexpected: extra; other shapes: weight \(3, 5\) instead of \(3, 4\)"
    ):
        weights.load_into(nn.Linear(4, 3), state, "x.pt")


def test_loading_keeps_the_versions_of_layers():
    """Without them MNASNet takes any state dict for one of years ago, and builds itself anew."""
    state = torchvision.models.mnasnet0_5(num_classes=3).state_dict()
    model = torchvision.models.mnasnet0_5(num_classes=3)
    weights.load_into(model, dict(state), "x.pt")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("content", [Evil(), b"not a checkpoint", {"model": 3}])
def test_only_tensors_are_loaded(tmp_path, content):
    """A pickle that would run code, garbage and other data are refused in one line."""
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UsageError, match="x.pt") as caught:
        weights.load_state(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_bit_is_noticed(tmp_path):
    """torch loads another weight then, without a word."""
    path = tmp_path / "x.pt"
    torch.save({"model": {"a": torch.arange(1000.0)}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(500.0, 502.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["a"], torch.arange(1000.0))
    with pytest.raises(UsageError, match=r"x\.pt is damaged: the checksum of x/data/0 is wrong"):
        weights.load_state(path)


def test_an_archive_that_holds_more_than_its_file_is_refused(tmp_path):
    """100 MB of zeros in 100 kB: torch would unpack them."""
    torch.save({"model": {"a": torch.zeros(25_000_000)}}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive, zipfile.ZipFile(tmp_path / "y.pt", "w") as packed:
        for part in archive.infolist():
            packed.writestr(part.filename, archive.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match=r"y\.pt is damaged: torch\.save did not write it, which does not compress"):
        weights.load_file(tmp_path / "y.pt")


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_pipe_does_not_block(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with within(10), pytest.raises(UsageError, match="is no regular file"):
        weights.load_file(tmp_path / name)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda net: torch.compile(nn.DataParallel(net))])
def test_names_of_a_wrapped_network_are_those_of_the_network(wrap):
    net = nn.Sequential(nn.Linear(2, 3))
    state = wrap(net).state_dict()
    assert not state.keys() & net.state_dict().keys()
    found = weights.named_as(net.state_dict().keys(), state)
    assert list(found) == ["0.weight", "0.bias"]
    weights.load_into(nn.Sequential(nn.Linear(2, 3)), found, "x.pt")


def test_a_part_that_is_called_as_a_wrapper_keeps_its_name():
    net = nn.Module()
    net.module = nn.Linear(2, 3)
    names = net.state_dict().keys()
    assert list(weights.named_as(names, net.state_dict())) == ["module.weight", "module.bias"]
    assert list(weights.named_as(names, nn.DataParallel(net).state_dict())) == ["module.weight", "module.bias"]
    mixed = {"module.0.weight": torch.ones(1), "n_averaged": torch.ones(())}
    assert weights.named_as(["0.weight"], mixed) is mixed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"epoch": 3, "model_state_dict": nn.Linear(2, 3).state_dict(), "loss": 0.5},
            " itself, or under 'model' or 'state_dict'; it has epoch, model_state_dict, loss: write what is under "
            "'model_state_dict' to a file of its own",
        ),
        ({"a": torch.ones(1), "b\n": 2, 3: torch.ones(1)}, "; what is no tensor with a name and values: b\\n, 3"),
        ({}, ", but an empty dict"),
        ([1], ", but an object of builtins.list"),
    ],
)
def test_a_file_without_a_state_dict_is_said_to_hold_what_it_does(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UsageError) as caught:
        weights.load_state(tmp_path / "x.pt")
    assert str(caught.value) == f"{tmp_path / 'x.pt'}: holds no state dict of tensors{said}"
