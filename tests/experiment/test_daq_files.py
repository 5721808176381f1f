"""The DAQ authors' files: the network in them is the one they describe, and a file with any defect is refused by name.

The published files are not at hand; every file here has their layout and random content.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qexp.config.compose import composing
from qexp.experiment import daq_files
from qexp.experiment.build import assemble, build_network
from qexp.experiment.evaluate import open_published
from qexp.utils.errors import UsageError
from support import authors_files

pytestmark = pytest.mark.thorough

KINDS: list[authors_files.Kind] = ["float", "weights", "both"]
FIRST = authors_files.LAYERS[0]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """`save(state)` writes a file with this state dict."""

    def write(state: Any) -> Path:
        path = tmp_path / "published.pth"
        torch.save({"state_dict": state, "epoch": 399}, path)
        return path

    return write


def network(path: Path, *words: str) -> nn.Module:
    """The network that `qexp eval` makes of a file, in evaluation mode."""
    file = daq_files.read_daq(path)
    small = ("dataset=synthetic", "dataset.train_size=10", "dataset.test_size=10", "device=cpu")
    with composing(config_name="eval_daq") as composer:
        job = composer.job([*file.overrides, *small, *words])
    assert job.config is not None, job.problems
    return open_published(job.config, file)[0].model.eval()


def translated(path: Path) -> daq_files.Translation:
    """A file, held against our network for it."""
    file = daq_files.read_daq(path)
    with composing(config_name="eval_daq") as composer:
        config = composer.job(file.overrides).config
    assert config is not None
    with torch.device("meta"):
        own = build_network(config, assemble(config)).state_dict()
    return daq_files.translate(file, own)


@pytest.mark.parametrize(("kind", "count"), [("float", 121), ("weights", 229), ("both", 211)])
def test_every_tensor_of_a_file_is_accounted_for(
    save: Callable[..., Path], kind: authors_files.Kind, count: int
) -> None:
    state = authors_files.state_dict(kind)
    translation = translated(save(state))
    signs = [key for key in translation.state if key.endswith("signed")]
    expected = {"float": {}, "weights": {"init": 18, "uA": 18, "lA": 18}, "both": {"init": 18}}[kind]
    assert len(state) == count == authors_files.TENSORS[kind]
    assert translation.unused == {"bn1": 5, **expected}
    assert len(translation.state) - len(signs) + sum(translation.unused.values()) == count
    assert len(signs) == (18 if kind == "both" else 0)
    assert all(translation.state[key] == 0 for key in signs)


@pytest.mark.parametrize(
    ("kind", "words", "bits"),
    [
        ("float", (), (32, 32)),
        ("weights", (), (1, 32)),
        ("weights", ("bits=3",), (3, 32)),
        ("both", (), (1, 1)),
        ("both", ("bits=2",), (2, 2)),
        ("both", ("weight_bits=1", "activation_bits=2"), (1, 2)),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_network_gives_the_logits_of_the_authors_network(
    save: Callable[..., Path],
    kind: authors_files.Kind,
    words: tuple[str, ...],
    bits: tuple[int, int],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """With scales that are powers of two, sums of codes are exact, so that no value near a threshold can go astray."""
    state = authors_files.state_dict(kind)
    x = torch.randn(4, 3, 32, 32, dtype=dtype)
    expected = authors_files.logits(state, x, weight_bits=bits[0], activation_bits=bits[1])
    assert expected.std(0).min() > 0.01, "the logits have to depend on the image"
    with torch.no_grad():
        found = network(save(state), *words).to(dtype)(x)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def test_any_scale_and_a_range_that_was_never_set(save: Callable[..., Path]) -> None:
    """Scales of both signs; and one layer keeps the placeholder 2**31 as range, so that all its inputs become 0."""
    state = authors_files.state_dict("both")
    for layer in authors_files.LAYERS:
        state[f"{layer}.beta"] = torch.randn(()) / 4
    state["layer2.block_1.0.conv2.uA"] = torch.tensor(2147483648.0)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        found = network(save(state)).double()(x)
    torch.testing.assert_close(found, authors_files.logits(state, x, weight_bits=1, activation_bits=1))


def test_ties_go_down_for_weights_and_activations(save: Callable[..., Path]) -> None:
    """A weight in the middle of its range is -1, an activation of half its range is 0, as the layer's output shows."""
    state = authors_files.state_dict("both")
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    state[f"{FIRST}.weight"] = kernel.expand(16, 16, 3, 3).clone()
    state |= {f"{FIRST}.lW": torch.tensor(-2.0), f"{FIRST}.uW": torch.tensor(2.0)}
    state |= {f"{FIRST}.uA": torch.tensor(0.5), f"{FIRST}.beta": torch.tensor(-0.5)}
    x = torch.tensor([0.0, 0.125, 0.25, 0.25 + 2**-20, 0.375, 5.0])[torch.randint(0, 6, (2, 16, 6, 6))]
    signs = torch.where(kernel > 0, 1.0, -1.0).expand(16, 16, 3, 3)
    expected = 0.5 * torch.conv2d((x > 0.25).float(), signs, padding=1)
    with torch.no_grad():
        assert torch.equal(network(save(state)).get_submodule("layer1.0.conv1")(x), expected)


# Defects


Edit = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("kind", "edit", "said"),
    [
        ("both", lambda s: s.pop(f"{FIRST}.uA"), "; missing: layer1.block_0.0.conv1.uA"),
        ("both", lambda s: s.pop("bn1.bias"), "; missing: bn1.bias"),
        ("both", lambda s: s.pop("layer3.block_2.0.conv2.init"), "; missing: layer3.block_2.0.conv2.init"),
        ("weights", lambda s: s.pop(f"{FIRST}.lA"), "; missing: layer1.block_0.0.conv1.lA"),
        ("weights", lambda s: s.pop(f"{FIRST}.uA"), "; missing: layer1.block_0.0.conv1.uA"),
        ("float", lambda s: s.pop("linear.bias"), "; missing: linear.bias"),
        ("float", lambda s: s.update({"bn3.weight": torch.ones(3)}), "; unexpected: bn3.weight"),
        ("both", lambda s: s.update({f"{FIRST}.bias": torch.ones(16)}), "; unexpected: layer1.block_0.0.conv1.bias"),
        ("float", lambda s: s.update({f"{FIRST}.beta": torch.ones(())}), "; missing: layer1.block_0.0.conv1.init"),
        (
            "both",
            lambda s: s.update({f"{FIRST}.uW": torch.ones(1)}),
            "; other shapes: layer1.block_0.0.conv1.uW (1,) instead of ()",
        ),
        (
            "both",
            lambda s: s.update({"linear.weight": torch.ones(100, 64)}),
            "; other shapes: linear.weight (100, 64) instead of (10, 64)",
        ),
        (
            "float",
            lambda s: s.update({"bn1.running_var": torch.ones(64)}),
            "; other shapes: bn1.running_var (64,) instead of (16,)",
        ),
        (
            "both",
            lambda s: s.update({f"{FIRST}.init": torch.tensor(1)}),
            ": saved before its first training batch; not 0: layer1.block_0.0.conv1.init",
        ),
        (
            "weights",
            lambda s: s.update({f"{FIRST}.init": torch.tensor(1)}),
            ": saved before its first training batch; not 0: layer1.block_0.0.conv1.init",
        ),
    ],
)
def test_a_file_of_another_layout_is_refused_by_name(
    save: Callable[..., Path], kind: authors_files.Kind, edit: Edit, said: str
) -> None:
    state = authors_files.state_dict(kind)
    edit(state)
    path = save(state)
    with pytest.raises(UsageError) as caught:
        translated(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line


def test_all_that_is_wrong_is_said_at_once(save: Callable[..., Path]) -> None:
    state = {f"module.{key}": value for key, value in authors_files.state_dict("float").items()}
    state |= {"conv1.weight": torch.ones(16, 1, 3, 3)}
    with pytest.raises(UsageError, match="missing: .* and 116 more; unexpected: .* and 117 more; other shapes: conv1"):
        translated(save(state))


class Intruder:
    """Would create a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("intruder",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"a": torch.ones(1)}, "epoch": 3}, "needs a dictionary with the key state_dict; found epoch, model"),
        ({}, "needs a dictionary with the key state_dict; found nothing"),
        (torch.ones(2), "needs a dictionary with the key state_dict; found Tensor"),
        ({"state_dict": {}}, "its state_dict holds no tensors"),
        ({"state_dict": torch.ones(2)}, "its state_dict holds no tensors"),
        ({"state_dict": {"a": torch.ones(1), "b": 0.5, 3: torch.ones(1)}}, "what is no tensor with a name: 3, b"),
        (
            {"state_dict": authors_files.state_dict("float"), "optimizer_dict": Intruder()},
            "besides tensors and plain values it holds posix.mkdir, which loading would have to call",
        ),
    ],
)
def test_a_file_of_other_content_is_refused_and_runs_no_code(
    content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "file.pth")
    with pytest.raises(UsageError) as caught:
        daq_files.read_daq(Path("file.pth"))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert os.listdir() == ["file.pth"]


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"hello"])
def test_a_damaged_file_is_refused_in_one_line(damage: Callable[[bytes], bytes], save: Callable[..., Path]) -> None:
    path = save(authors_files.state_dict("float"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError) as caught:
        daq_files.read_daq(path)
    assert str(caught.value).startswith(f"{path} is not a checkpoint that can be loaded safely: ")
    assert len(str(caught.value).splitlines()) == 1
    assert "weights_only" not in str(caught.value), "torch advises to load it unsafely"


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("float", ("bits=2",), "weight_bits=2: must be 32, because .* holds no weight ranges"),
        ("float", ("activation_bits=2",), "activation_bits=2: must be 32, because .* holds no activation ranges"),
        ("weights", ("activation_bits=1",), "activation_bits=1: must be 32, because .* holds no activation ranges"),
        ("weights", ("bits=32",), "weight_bits=32: must be 1 to 8, because .* holds weight ranges"),
        ("both", ("activation_bits=32",), "activation_bits=32: must be 1 to 8, because .* holds activation ranges"),
    ],
)
def test_bits_that_do_not_go_with_the_file_are_refused(
    kind: authors_files.Kind, words: tuple[str, ...], said: str, save: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=said):
        network(save(authors_files.state_dict(kind)), *words)
