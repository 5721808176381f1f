"""`qexp doctor`: check the installation, the devices and the folders."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import qexp
from qexp.cli.parser import Parser
from qexp.cli.text import folded
from qexp.config.places import conf_dir, data_root, store_root


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Print what was found; return 0 if training can work, else 1."""
    Parser("qexp doctor", "Check the installation, devices and folders.").parse(words)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("qexp", lambda: f"{qexp.__version__} in {Path(qexp.__file__).parent}, configuration in {conf_dir()}"),
        ("python", lambda: f"{platform.python_version()}  {sys.executable}"),
        ("packages", _packages),
        ("torch", _torch),
        ("cpu", _cpu),
        ("cuda", _cuda),
        ("run store", lambda: _writable(store_root(None))),
        ("data", _data),
    ]
    failed = False
    for name, check in checks:
        try:
            line, mark = check(), "ok"
        except Exception as error:
            line, mark, failed = f"{type(error).__name__}: {error}".splitlines()[0], "PROBLEM", True
        print(folded(f"{mark:<8}{name:<10} {line}", 19))
    return 1 if failed else 0


def _packages() -> str:
    names = ("hydra-core", "omegaconf", "tensorboard", "rich", "scikit-learn", "numpy")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _torch() -> str:
    import torch
    import torchvision

    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0])
    torchvision.ops.nms(boxes, scores, 0.5)  # fails where the two packages were built for different versions
    return f"torch {torch.__version__} and torchvision {torchvision.__version__} fit together"


def _cpu() -> str:
    from qexp.experiment.threads import most_threads

    return (
        f"{os.cpu_count()} cores; a network gets as many threads as it is worth, at most {most_threads()} (threads=N)"
    )


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; training runs on the CPU"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"CUDA {torch.version.cuda}: {', '.join(names)}"


def _writable(path: Path) -> str:
    existing = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise PermissionError(f"cannot write {path}; set runs_dir= or QEXP_RUNS")
    return f"{path} (set by runs_dir= or QEXP_RUNS)"


def _data() -> str:
    root = data_root(None)
    names = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "mnist": "MNIST/raw"}
    found = [name for name, folder in names.items() if (root / name).is_dir() or (root / folder).is_dir()]
    listed = ", ".join(found) or "nothing; torchvision's datasets are downloaded there"
    return f"{root} (set by data_dir= or QEXP_DATA): {listed}; digits needs no files"
