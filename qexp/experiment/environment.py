"""env.json: on what a result was obtained. Holds no paths and no user names."""

import os
import platform
import re
import socket
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import qexp
from qexp.experiment.checkout import git_state

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "tensorboard", "rich", "numpy", "scikit-learn")

# What changes numbers, or on what they are computed, without being an option of qexp.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY"),
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
CPU_INFO = Path("/proc/cpuinfo")
DRIVER_INFO = Path("/proc/driver/nvidia/version")


def environment(device: torch.device, seed: int) -> dict[str, Any]:
    """Return versions, machine, device, git state, seed, and the time at which the run began."""
    on_cuda = device.type == "cuda"
    return {
        "qexp": qexp.__version__,
        "python": sys.version.split()[0],
        "versions": _versions(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu": _cpu_name(CPU_INFO),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_cuda else "CPU",
        "cuda": torch.version.cuda if on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,
        "driver": _driver(DRIVER_INFO) if on_cuda else None,
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "git": git_state(Path(qexp.__file__).parent),
        "seed": seed,
        "time_started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {**versions, "torch": str(torch.__version__)}  # with its build, such as +cu128, which metadata may lack


def _cpu_name(info: Path) -> str | None:
    """Return the model name of the processor, None where it is not known."""
    found = re.search(r"^model name[ \t]*:[ \t]*(\S.*?)\s*$", _read(info), re.MULTILINE)
    return found[1] if found else platform.processor() or None


def _driver(info: Path) -> str | None:
    """Return the version of NVIDIA's driver, None where it is not known."""
    found = re.search(r"^NVRM version:.*?\s(\d+\.[\d.]+)\s", _read(info), re.MULTILINE)
    return found[1] if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
