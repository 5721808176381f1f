"""Whatever is wrong with a command or its files: one line that says so, the right exit code, nothing created."""

import builtins
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qexp.cli.main import COMMANDS
from qexp.engine import weights
from qexp.experiment import build, preflight
from qexp.utils.errors import UsageError
from support.bad_files import record, saved
from support.bad_inputs import BAD_INPUTS, SMALL, BadInput
from support.commands import Qexp

pytestmark = pytest.mark.thorough


def entries() -> set[Path]:
    return set(Path().rglob("*"))


def lines_of(result: Any, command: str, count: int) -> list[str]:
    """What stderr says, all of it in lines that have the form of every error."""
    start = f"qexp {command}: error: " if command in COMMANDS else "qexp: error: "
    assert all(line.startswith(start) and len(line) < 1000 for line in result.errors), result.err
    assert len(result.errors) == count, result.err
    return [line.removeprefix(start) for line in result.errors]


def one_line_of(result: Any, command: str) -> str:
    return lines_of(result, command, 1)[0]


def test_the_list_is_long_and_its_names_differ() -> None:
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS) >= 65


@pytest.mark.process
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_a_bad_input_is_answered_by_one_line_and_creates_nothing(qexp: Qexp, bad: BadInput) -> None:
    bad.prepare(Path())
    before = entries()
    result = qexp(*bad.words)
    assert result.code == bad.code, result.err
    assert bad.says in lines_of(result, bad.words[0], bad.lines)[0]
    assert "Traceback" not in result.out + result.err
    if bad.code == 2:
        assert (entries(), result.out) == (before, "")
    else:
        assert {path.parts[0] for path in entries() - before} == {"runs"}
        (status,) = Path("runs").glob("*/*/*/*/status.json")
        assert json.loads(status.read_text())["state"] == "failed"


def test_every_mistake_has_its_line(qexp: Qexp) -> None:
    result = qexp("train", "bits=99", "recipe.epochs=0", "threads=9999", "quantiser=daq", "model.width=nan", "[")
    assert result.code == 2
    said = [line.removeprefix("qexp train: error: ").partition(":")[0] for line in result.errors]
    assert sorted(said) == ["[", "bits=99", "model.width=nan", "quantiser=daq", "recipe.epochs=0", "threads=9999"]
    assert entries() == set()


# What cannot be had for every command


def test_a_store_and_data_without_permission_are_refused(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may read and write everything: so this is played."""
    Path("store").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "store")
    result = qexp("train", "runs_dir=store")
    assert (result.code, one_line_of(result, "train")) == (2, "cannot write store: Permission denied")
    assert qexp("train", "runs_dir=store", "--dry-run").code == 0
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.name == "train.npz":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    result = qexp("train", "dataset=cifar10", "data_dir=data")
    assert (result.code, one_line_of(result, "train")) == (
        2,
        "data/cifar10/train.npz: cannot be read (Permission denied)",
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "words",
    [
        *("runs show", "runs rm --yes", "runs", "runs tensorboard", "runs --runs-dir", "report", "report --config-dir"),
        *("plot curves", "plot weights", "plot curves --runs-dir", "eval", "eval abcdefgh checkpoint="),
        *("train init=", "train layer_bits=", "train runs_dir=", "train data_dir=", "train --config-dir"),
    ],
)
def test_a_name_longer_than_any_file_has_is_one_line(qexp: Qexp, words: str) -> None:
    """The system has another error for it than for a file that is not there."""
    long = "9" * 400
    result = qexp(*(f"{words}{long}" if words.endswith("=") else f"{words} {long}").split())
    if result.code == 0:
        assert result.out.endswith(f" in {long if 'runs-dir' in words else 'runs'}\n")
        assert result.out.startswith("no such runs")
    else:
        assert (result.code, result.out) == (2, "")
        one_line_of(result, words.split()[0])
    assert entries() == set()


@pytest.mark.process
@pytest.mark.parametrize("command", ["runs", "runs show abcdefgh", "report digits", "plot curves digits"])
def test_a_store_that_may_not_be_read_is_not_called_empty(
    qexp: Qexp, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    Path("store").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "store")
    result = qexp(*command.split(), "--runs-dir", "store")
    assert (result.code, one_line_of(result, command.split()[0])) == (2, "cannot read store: Permission denied")


def test_an_empty_file_of_torchvision_is_refused(qexp: Qexp) -> None:
    folder = Path("data/MNIST/raw")
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"")
    line = one_line_of(qexp("train", "dataset=mnist", "data_dir=data"), "train")
    assert line == f"{folder}/train-images-idx3-ubyte: is empty; delete the folder {folder} and run again"


def test_debug_shows_the_traceback(qexp: Qexp) -> None:
    result = qexp("eval", "ffffffff", "--debug")
    assert result.code == 2
    assert "Traceback" in result.err


# A network to begin with


@pytest.fixture
def network(configure: Callable[..., Any]) -> torch.nn.Module:
    config = configure(*SMALL[1:])
    return build.build_network(config, build.assemble(config))


def dry(qexp: Qexp, name: str) -> Any:
    return qexp(*SMALL, f"init={name}", "--dry-run")


def test_a_state_dict_comes_from_torch_or_from_safetensors(qexp: Qexp, network: torch.nn.Module) -> None:
    save_file(network.state_dict(), "a.safetensors")
    torch.save(network.state_dict(), "a.pt")
    for name in ("a.pt", "a.safetensors"):
        assert (dry(qexp, name).code, dry(qexp, name).err) == (0, "")
        state = weights.load_state(Path(name))
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    first = Path("a.safetensors").read_bytes()
    for damaged in (first[:-10], first[:50], b"", b"\xff" * 200, first + b"x"):
        Path("a.safetensors").write_bytes(damaged)
        line = one_line_of(dry(qexp, "a.safetensors"), "train")
        assert "a.safetensors is not a checkpoint that can be loaded safely: it is damaged" in line


@pytest.mark.training
def test_a_run_starts_from_safetensors(train: Qexp, only_run: Callable[..., Path], network: torch.nn.Module) -> None:
    save_file(network.state_dict(), "a.safetensors")
    frozen = ("recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0", "model.width=0.25", "stuck_after=null")
    words = (*SMALL[1:], *frozen, "recipe.batch_size=32", "init=a.safetensors")
    assert train(*words, "dataset.train_size=64").code == 0
    state = weights.load_state(only_run("fp") / "last.pt")
    assert torch.equal(state["linear.weight"], network.state_dict()["linear.weight"])


def test_without_safetensors_the_line_says_what_to_install(qexp: Qexp, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.safetensors").write_bytes(b"")
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert one_line_of(dry(qexp, "a.safetensors"), "train").endswith("needs safetensors (pip install safetensors)")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("linear.bias", torch.tensor([0.0] * 9 + [torch.nan]), "with infinite values or NaN in linear.bias"),
        ("bn1.running_var", torch.full((4,), torch.inf), "with infinite values or NaN in bn1.running_var"),
        ("linear.bias", torch.zeros(10, dtype=torch.int8), "integers instead of floats: linear.bias"),
        ("linear.bias", torch.zeros(9), "other shapes: linear.bias (9,) instead of (10,)"),
        ("linear.extra", torch.zeros(9), "unexpected: linear.extra"),
        ("linear.bias", torch.zeros(10).to_sparse(), "holds no state dict of tensors"),
        ("linear.bias", torch.zeros(10, dtype=torch.complex64), "holds no state dict of tensors"),
        (3, torch.zeros(10), "holds no state dict of tensors"),
    ],
)
def test_a_tensor_that_is_none_of_ours_is_named(
    qexp: Qexp, network: torch.nn.Module, key: Any, value: torch.Tensor, said: str
) -> None:
    saved({**network.state_dict(), key: value})(Path())
    assert said in one_line_of(dry(qexp, "file.pt"), "train")


def test_a_record_names_only_its_own_parts(qexp: Qexp) -> None:
    """Somebody's run that would call something, however it says so: it is never even imported."""
    for key, target in (
        ("model", "qexp.runs.shutil.rmtree"),
        ("dataset", "qexp.experiment.environment.subprocess.run"),
        ("quantizer", "qexp.quantizers.daq.torch.save"),
        ("quantizer", "qexp.quantizers..os.system"),
        ("model", "qexp.models"),
    ):
        record((f"{key}._target_", target))(Path())
        result = qexp("eval", "run")
        assert result.code == 2
        assert one_line_of(result, "eval").startswith(f"{key}._target_={target}: ")
    record(("recipe.schedule._target_", "os.system"))(Path())
    assert "recipe.schedule._target_=os.system: unknown option" in one_line_of(qexp("eval", "run"), "eval")


# Parts


@pytest.mark.parametrize(
    ("images", "batch", "parts", "expected"),
    [
        (64, 32, 1, (32, 32)),
        (65, 32, 1, (32, 32)),
        (66, 32, 1, (2, 32)),
        (70, 32, 4, (2, 8)),
        (5, 5, 2, (2, 2)),
        (9, 1, 1, (1, 1)),
    ],
)
def test_the_sizes_that_a_network_sees(images: int, batch: int, parts: int, expected: tuple[int, int]) -> None:
    assert preflight.piece_sizes(images, batch, parts) == expected


def test_a_machine_that_does_not_tell_its_memory_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    preflight.check_memory(1e30, "everything")
    monkeypatch.setattr(preflight, "machine_memory", lambda: 2e9)
    with pytest.raises(UsageError, match="^its weights would take 3 GB of memory, and this machine has 2$"):
        preflight.check_memory(3e9, "its weights")
