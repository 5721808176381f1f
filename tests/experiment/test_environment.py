"""env.json: what is recorded of the machine, the versions and the source a result was obtained with."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import qexp as package
from qexp.experiment import environment as module
from qexp.experiment.environment import VARIABLES, environment, git_state
from support.commands import Sweep

CPU = torch.device("cpu")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small git repository with a package, its configuration and a README, all committed."""
    root = tmp_path / "checkout"
    for name, content in (
        ("qexp/__init__.py", "one = 1\n"),
        ("qexp/engine/step.py", "two = 2\n"),
        ("conf/train.yaml", "bits: 2\n"),
        ("README.md", "hello\n"),
        (".gitignore", "*.pyc\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "-q")
    git(root, "add", ".")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> None:
    git(root, "commit", "-q", "-m", "x")


def changes(root: Path) -> str | None:
    """What stands for the uncommitted changes; twice the same."""
    found, again = git_state(root / "qexp"), git_state(root / "qexp")
    assert found == again
    assert found is not None
    return found["changes"]


# The source


@pytest.mark.process
def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    expected = {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False, "changes": None}
    assert git_state(checkout / "qexp") == expected


MATTERS: dict[str, Callable[[Path], object]] = {
    "a line": lambda root: (root / "qexp" / "__init__.py").write_text("one = 2\n"),
    "another line": lambda root: (root / "qexp" / "__init__.py").write_text("one = 3\n"),
    "the same line elsewhere": lambda root: (root / "qexp" / "engine" / "step.py").write_text("one = 2\n"),
    "configuration": lambda root: (root / "conf" / "train.yaml").write_text("bits: 3\n"),
    "a new file": lambda root: (root / "conf" / "new.yaml").write_text("bits: 3\n"),
    "a new file in a new folder": lambda root: shutil.copytree(root / "conf", root / "qexp" / "conf"),
    "a new name": lambda root: (root / "qexp" / "n\u00f6 \n.py").write_text("bits: 3\n"),
    "bytes": lambda root: (root / "qexp" / "__init__.py").write_bytes(b"\0\1\2"),
    "a deletion": lambda root: (root / "qexp" / "engine" / "step.py").unlink(),
    "a move": lambda root: (root / "qexp" / "engine" / "step.py").rename(root / "qexp" / "step.py"),
    "a staged move": lambda root: git(root, "mv", "qexp/engine/step.py", "qexp/moved.py"),
    "a staged copy": lambda root: stage(root, "qexp/moved.py", "two = 2\n"),
    "a staged line": lambda root: stage(root, "qexp/__init__.py", "one = 9\n"),
    "a staged file": lambda root: stage(root, "qexp/staged.py", "one = 9\n"),
}


def stage(root: Path, name: str, content: str) -> None:
    (root / name).write_text(content)
    git(root, "add", name)


@pytest.mark.process
def test_every_change_that_matters_has_a_hash_of_its_own(checkout: Path, tmp_path: Path) -> None:
    found = []
    for name, change in MATTERS.items():
        root = tmp_path / name
        shutil.copytree(checkout, root)
        change(root)
        found.append(changes(root))
    assert all(isinstance(one, str) and len(one) == 16 and set(one) <= set("0123456789abcdef") for one in found)
    assert len(set(found)) == len(MATTERS)


@pytest.mark.process
def test_the_hash_is_that_of_names_and_contents_and_goes_when_they_are_committed(checkout: Path) -> None:
    """The same change made twice is one change, and time, index and the user's configuration of git do not matter."""
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    (checkout / "conf" / "new.yaml").write_text("x\n")
    first = changes(checkout)
    os.utime(checkout / "qexp" / "__init__.py", (1, 1))
    git(checkout, "config", "diff.noprefix", "true")
    git(checkout, "config", "diff.external", "false")
    git(checkout, "config", "diff.relative", "false")
    git(checkout, "config", "color.ui", "always")
    assert changes(checkout) == first
    git(checkout, "add", ".")
    assert changes(checkout) == first
    commit(checkout)
    assert changes(checkout) is None
    (checkout / "qexp" / "__init__.py").write_text("one = 1\n")
    second = changes(checkout)
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    os.utime(checkout / "qexp" / "__init__.py", (2, 2))
    assert second not in (None, first)
    assert changes(checkout) is None


@pytest.mark.process
def test_what_cannot_change_a_result_has_no_hash(checkout: Path) -> None:
    """A README that is edited makes the checkout dirty, as before, but the result is that of the commit."""
    (checkout / "README.md").write_text("hello again\n")
    (checkout / "notes.txt").write_text("x")
    (checkout / "qexp" / "__init__.pyc").write_text("x")
    found = git_state(checkout / "qexp")
    assert found is not None
    assert (found["dirty"], found["changes"]) == (True, None)


@pytest.mark.process
def test_a_checkout_inside_a_larger_one_sees_its_own_files_only(checkout: Path) -> None:
    inner = checkout / "part"
    shutil.copytree(checkout / "qexp", inner / "qexp")
    git(checkout, "add", ".")
    commit(checkout)
    (checkout / "qexp" / "__init__.py").write_text("one = 2\n")
    assert changes(inner) is None
    (inner / "qexp" / "__init__.py").write_text("one = 2\n")
    assert changes(inner) == changes(checkout)


@pytest.mark.process
def test_what_is_in_no_checkout_has_no_state(checkout: Path, tmp_path: Path) -> None:
    """Neither has a package that is installed inside somebody else's checkout, nor a folder without a commit."""
    (checkout / ".venv" / "qexp").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    (tmp_path / "new" / "qexp").mkdir(parents=True)
    stage_in = tmp_path / "new"
    git(stage_in, "init", "-q")
    stage(stage_in, "qexp/a.py", "x")
    for folder in (checkout / ".venv" / "qexp", tmp_path / "plain", tmp_path / "nowhere", stage_in / "qexp"):
        assert git_state(folder) is None


@pytest.mark.process
def test_without_git_there_is_no_state(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state(checkout / "qexp") is None


# The machine


@pytest.mark.process
def test_the_record_has_these_keys_and_is_plain_data() -> None:
    found = environment(CPU, 3)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {
        *("qexp", "python", "versions", "git", "seed", "time_started"),
        *("platform", "processor", "cpu", "cpu_capability", "cpu_count", "threads", "variables", "hostname", "pid"),
        *("device", "device_name", "cuda", "cudnn", "driver"),
    }


@pytest.mark.process
def test_the_record_is_of_this_process() -> None:
    torch.set_num_threads(1)
    before = datetime.now(UTC) - timedelta(seconds=1)
    found = environment(CPU, 3)
    assert before <= datetime.fromisoformat(found["time_started"]) <= datetime.now(UTC)
    assert (found["pid"], found["hostname"], found["threads"], found["seed"]) == (
        os.getpid(),
        socket.gethostname(),
        1,
        3,
    )
    assert (found["device"], found["device_name"]) == ("cpu", "CPU")
    assert (found["cuda"], found["cudnn"], found["driver"]) == (None, None, None)
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


@pytest.mark.process
def test_the_version_of_torch_names_its_build() -> None:
    found = environment(CPU, 0)["versions"]
    assert found["torch"] == torch.__version__
    assert found["numpy"] == version("numpy")


@pytest.mark.process
def test_variables_that_matter_are_recorded_if_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert environment(CPU, 0)["variables"] == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert environment(CPU, 0)["variables"] == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.process
def test_the_record_names_no_user_and_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME", "USERNAME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/home/somebody")
    text = json.dumps(environment(CPU, 0))
    assert "somebody" not in text
    assert str(Path(module.__file__).parents[2]) not in text


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Abacus  3000 @ 2.00GHz \nstepping\t: 1\nmodel name\t: x\n",
            "Abacus  3000 @ 2.00GHz",
        ),
        ("model\t\t: 17\nmodel name\t:\nstepping\t: 1\n", None),
        ("", None),
    ],
)
def test_the_processor_is_named_as_linux_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str | None
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert environment(CPU, 0)["cpu"] == name


CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\nGCC version:  12.2\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (someone@U22-I3)  Wed Feb 26\n"
)


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "driver"), [(CLOSED, "535.54.03"), (OPEN, "570.124.06"), ("NVRM version: ?\n", None), ("", None)]
)
def test_on_cuda_card_driver_and_cudnn_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, driver: str | None
) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(module, "DRIVER_INFO", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    found = environment(torch.device("cuda", 1), 0)
    assert [found[key] for key in ("device", "device_name", "cuda", "cudnn", "driver")] == [
        *("cuda:1", "card 1", "13.2", 91002),
        driver,
    ]


@pytest.mark.process
def test_a_machine_without_these_files_is_recorded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "no")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert environment(CPU, 0)["cpu"] == "arm"


def test_the_environment_says_on_what_a_result_was_obtained(sweep: Sweep) -> None:
    found = json.loads((sweep.run("dqa") / "env.json").read_text())
    assert found["qexp"] == package.__version__
    assert found["python"] == sys.version.split()[0]
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert "not installed" not in found["versions"].values()
    assert (found["device"], found["seed"]) == ("cpu", 0)
    assert set(found) >= {"git", "platform", "cpu_count", "threads", "device_name"}
