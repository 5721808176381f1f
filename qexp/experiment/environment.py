"""env.json: on what a result was obtained. Holds no paths and no user names."""

import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import qexp

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "tensorboard", "rich", "numpy", "scikit-learn")

# What changes numbers, or on what they are computed, without being an option of qexp.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY"),
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
CPU_INFO = Path("/proc/cpuinfo")
DRIVER_INFO = Path("/proc/driver/nvidia/version")


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of the checkout that holds the package in `folder`, None outside of one.

    Returns:
        `commit`; `dirty`, whether any tracked file differs from it; and `changes`, which stands for everything
        uncommitted that can change a result: the first 16 hex digits of a SHA-256 over the names and contents of files
        in `folder` and in conf/ beside it that differ from the commit or are new and not ignored. None without any.
    """
    try:
        if not _git(folder, "ls-files", "--", "."):  # installed inside somebody else's checkout: not tracked there
            return None
        return {
            "commit": _git(folder, "rev-parse", "HEAD").decode().strip(),
            "dirty": bool(_git(folder, "status", "--porcelain", "-uno")),
            "changes": _changes(folder),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> bytes:
    """Return what git prints; it finds its repository by the folder, and takes no orders from the environment."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options: Any = {"env": variables, "stdin": subprocess.DEVNULL, "timeout": 10}
    return subprocess.run(command, capture_output=True, check=True, **options).stdout


def _changes(folder: Path) -> str | None:
    root, places = folder.parent, ("--", folder.name, "conf")
    # Names and contents instead of a diff, whose text depends on the git configuration of the user.
    changed = _git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD", *places)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *places)
    names = sorted({name for name in (changed + new).split(b"\0") if name})
    digest = hashlib.sha256()
    for name in names:
        digest.update(name + b"\0" + _content_digest(root / os.fsdecode(name)) + b"\0")
    return digest.hexdigest()[:16] if names else None


def _content_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, and a word for a file that was deleted or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest().encode()
    except OSError as error:
        return type(error).__name__.encode()


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
