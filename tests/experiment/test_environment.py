"""env.json: what is recorded of the machine, the versions and the source a result was obtained with."""

import json
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import qexp as package
from qexp.experiment import environment as module
from qexp.experiment.environment import VARIABLES, environment
from support.commands import Sweep

CPU = torch.device("cpu")


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
