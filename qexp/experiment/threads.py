"""CPU threads: how many a network gets, and that they wait without spinning while other processes want the cores.

The threads of an operation wait for each other at its end. GNU OpenMP, which torch brings on Linux, lets a thread spin
meanwhile: the fastest way on an idle machine. Beside other work it is the slowest: the one that is waited for has lost
its core to another process, and the one that waits burns the other core. docs/PERFORMANCE.md has the figures.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from qexp.config.config import Config
from qexp.experiment.build import Parts
from qexp.experiment.device import pick_device

WORTH_A_THREAD = 8e6  # multiplications of a layer in one batch; with fewer, waiting costs as much as a thread brings
SAID_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITS_SAID_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

_LOOK_SECONDS = 0.5
_COMPANY, _ALONE = 0.1, 0.03  # of the time of all threads, spent waiting for a core; alone it is below 0.01
_QUIET_LOOKS = 6  # before waits are long again
_TASKS = Path("/proc/self/task")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def set_threads(config: Config, parts: Parts) -> int:
    """Let torch use the threads that a configuration asks for, or that its network is worth; return how many.

    They follow from the configuration and the machine, never from its load: the last bits of a result depend on them.
    """
    most = most_threads()
    torch.set_num_threads(config.threads or _worth(config, parts, most))
    return torch.get_num_threads()


def _worth(config: Config, parts: Parts, most: int) -> int:
    if most == 1 or pick_device(config.device).type != "cpu" or _is_said(SAID_BY):
        return most
    return max(1, min(most, int(work_of_a_layer(config, parts) / WORTH_A_THREAD)))


def _is_said(names: Sequence[str]) -> bool:
    return any(name in os.environ for name in names)


@cache
def most_threads() -> int:
    """Return torch's own number of threads as it is at first, or that of a container's cores, if it is less."""
    own = torch.get_num_threads()
    return own if _is_said(SAID_BY) else min(own, _cores(_QUOTA))


def _cores(quota: Path | None = None) -> int:
    """Return the number of cores that this process may run on, or fewer where its control group has a quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no control groups, or no quota: "max 100000"
        if quota is not None:
            most, period = map(int, quota.read_text().split())
            cores = min(cores, -(-most // period))
    return max(1, cores)


def work_of_a_layer(config: Config, parts: Parts) -> float:
    """Return the multiplications of a training batch in a convolution or linear layer, on average."""
    recipe, source = config.recipe, parts.source
    images = max(1, recipe.batch_size // recipe.accumulate)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model = parts.build_model().eval()
        model(torch.empty(1, source.channels, source.image_size, source.image_size))
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())
    return images * counter.get_total_flops() / 2 / max(1, layers)


@contextmanager
def considerate_waits() -> Iterator[None]:
    """Inside the block, let no thread of OpenMP spin for long while other processes want the cores.

    It changes no number. Nothing happens where the user has said how to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT), without
    GNU OpenMP, and where the kernel does not tell how long threads waited for a core.
    """
    threads = torch.get_num_threads()
    make = _maker_of_teams(max(2, _cores() - threads + 2))
    if threads == 1 or make is None or _is_said(WAITS_SAID_BY) or not any(_TASKS.glob("*/schedstat")):
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(threads, _SleepingTeam(make), ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _maker_of_teams(size: int) -> Callable[[], None] | None:
    """Return what makes a team of so many threads of GNU OpenMP, which then sleep; None without that library."""
    try:
        gomp = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)  # the one that torch has loaded
        return partial(gomp.GOMP_parallel, ctypes.CDLL(None).free, None, size, 0)  # each of them calls free(NULL)
    except (OSError, AttributeError):  # another system, or another library
        return None


class _SleepingTeam:
    """A second team of threads, which does nothing.

    libgomp counts threads: where there are more than cores, those that wait spin a hundred times only (its manual,
    GOMP_SPINCOUNT). There is no other way to tell it so once it is loaded.
    """

    def __init__(self, make: Callable[[], None]):
        self._make, self._released = make, threading.Event()
        self._holder: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """Whether it exists."""
        return self._holder is not None

    def hold(self) -> None:
        """Let it exist."""
        self._released.clear()
        self._holder = threading.Thread(target=self._run, daemon=True)
        self._holder.start()

    def release(self) -> None:
        """Let it end, if it exists."""
        if self._holder is not None:
            self._released.set()
            self._holder.join()
            self._holder = None

    def _run(self) -> None:
        self._make()
        self._released.wait()  # a team ends with the thread that made it


def _watch(threads: int, team: _SleepingTeam, ended: threading.Event) -> None:
    """Hold the sleeping team while the threads of this process wait for cores, until `ended`."""
    try:
        _hold_in_company(threads, team, ended)
    except OSError:  # too many open files, say: waits stay as they are
        pass
    finally:
        team.release()


def _hold_in_company(threads: int, team: _SleepingTeam, ended: threading.Event) -> None:
    """Look twice a second, and hold or release the team; raises OSError."""
    quiet, looked, waited = 0, time.monotonic(), _seconds_waited()
    while not ended.wait(_LOOK_SECONDS):
        now, total = time.monotonic(), _seconds_waited()
        share = (total - waited) / (now - looked) / threads
        looked, waited = now, total
        quiet = quiet + 1 if share < _ALONE else 0
        if share > _COMPANY and not team.is_held:
            team.hold()
        elif quiet >= _QUIET_LOOKS:
            team.release()


def _seconds_waited() -> float:
    """Return how long the threads of this process were ready to run and had no core, all together."""
    waited = 0
    for task in _TASKS.iterdir():
        with suppress(OSError, ValueError, IndexError):  # a thread that has ended
            waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9
