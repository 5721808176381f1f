"""env.json: on what a result was obtained."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import qexp

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "tensorboard", "rich", "numpy", "scikit-learn")


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and uncommitted changes of the checkout that holds `folder`, None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if git("ls-files", "--", "."):  # an installed package inside somebody else's checkout is not tracked there
            return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        pass
    return None


def environment(device: torch.device, seed: int) -> dict[str, Any]:
    """Return versions, machine, device, git state and seed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "qexp": qexp.__version__,
        "python": sys.version.split()[0],
        "versions": versions,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "git": git_state(Path(qexp.__file__).parent),
        "seed": seed,
    }
