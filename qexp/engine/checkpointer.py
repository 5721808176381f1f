"""The checkpoints of a run: written by time and steps, verified when they are read.

last.pt            the latest state of a training; of a finished run its network alone
previous.pt        the state before that, while the run is not finished
best.pt            the network with the highest hard top-1, on held-out images if any, up to the state in last.pt;
                   where bit-widths are learned, among those that have the latest ones
best-previous.pt   the one before that, while the run is not finished
"""

import io
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qexp.engine.divergence import check_training
from qexp.engine.loop import NoCheckpointer
from qexp.engine.train_state import TrainState, to_cpu
from qexp.engine.weights import is_state, load_file, load_into
from qexp.utils import atomic
from qexp.utils.callback import Callback, EpochRecord
from qexp.utils.errors import UsageError
from qexp.utils.text import few

LAST, PREVIOUS, BEST, BEST_PREVIOUS = "last.pt", "previous.pt", "best.pt", "best-previous.pt"
# What best.pt, and last.pt of a finished run, hold: `run` is its identity, `codes` what its quantized weights are.
NETWORK = ("model", "epoch", "top1", "run", "codes")


class Checkpointer(NoCheckpointer):
    """Saves the states of a run, and finds the latest whole one.

    Args:
        directory: the run's.
        identity: what the run computes; a checkpoint of another run is refused.
        steps: steps between states, 0 for none because of steps.
        seconds: seconds between states, 0 for none because of time.
        codes: returns the codes of a network's weights, by layer.
        bits: returns the bit-widths that a network has learned, by layer: one of others is another network.
        warn: is told in one line of what is damaged.
    """

    def __init__(
        self,
        directory: Path,
        *,
        identity: Mapping[str, Any],
        steps: int = 0,
        seconds: float = 0.0,
        codes: Callable[[nn.Module], Mapping[str, Tensor]] = lambda _: {},
        bits: Callable[[nn.Module], Mapping[str, tuple[int, int]]] = lambda _: {},
        warn: Callable[[str], None] = lambda _: None,
    ):
        self.directory, self.identity, self.steps, self.seconds = directory, dict(identity), steps, seconds
        self.best_top1, self.best_soft, self.best_epoch = -1.0, -1.0, 0
        self.best_score = -1.0  # what it was chosen by: top-1 on held-out images where there are any, else best_top1
        self.callbacks: Sequence[Callback] = ()
        self.best_bits: Mapping[str, tuple[int, int]] = {}
        self._warn, self._codes, self._bits = warn, codes, bits
        self.resumed_at: list[int] = []  # steps at which a new process resumed
        self._pending: dict[str, Any] | None = None  # a best network that is not on the disk yet
        self._time_before = 0.0
        self._files: dict[str, int] = {}  # of the state before: what this process does not write, stays in the next one
        self._began = self._saved_at = time.monotonic()
        self._saved_step = 0
        self.found = self._find()

    @property
    def files(self) -> Mapping[str, int]:
        """Return file -> bytes: how much of what only grows belongs to the state that was found."""
        return self.found["files"] if self.found else {}

    @property
    def time_seconds(self) -> float:
        """How long this run has been trained, in all processes."""
        return self._time_before + time.monotonic() - self._began

    # Resuming

    def restore(self, state: TrainState, prepare: Callable[[int], None]) -> None:
        if self.found is None:
            return
        prepare(self.found["training"]["done"])
        load_into(state.model, self.found["model"], str(self.directory))
        state.load_state_dict(self.found["training"])
        self.best_top1, self.best_soft, self.best_epoch = self.found["best"]
        self.best_score = self.found.get("best_score", self.best_top1)
        self.best_bits = self.found.get("best_bits", {})
        self.resumed_at = [*self.found["resumed_at"], state.done]
        self._time_before, self._saved_step = self.found["time_seconds"], state.done
        self._files = dict(self.found["files"])
        self._choose_best()
        self.found = None  # the memory is needed

    def _find(self) -> dict[str, Any] | None:
        """Return the latest whole state; raises UsageError for that of another run."""
        damaged = False
        for name in (LAST, PREVIOUS):
            path = self.directory / name
            if not path.exists():
                continue
            try:
                content = read_checkpoint(path)
            except UsageError as error:
                self._warn(f"warning: {error}")
                damaged = True
                continue
            if "training" in content:
                self._check_identity(path, content["run"])
                if damaged:
                    self._warn(f"warning: resuming from {path}, the checkpoint before it")
                return content
        if damaged:
            self._warn(f"warning: no checkpoint in {self.directory} can be used; the run restarts")
        return None

    def _check_identity(self, path: Path, found: Mapping[str, Any]) -> None:
        if differing := option_differences(self.identity, found):
            raise UsageError(f"{path} is of another run: {few(differing)}; overwrite=true restarts this run without it")

    def _choose_best(self) -> None:
        """Make best.pt the one that the state knows: a later one belongs to epochs that are trained again."""
        for name in (BEST, BEST_PREVIOUS):
            with suppress(UsageError):
                if read_checkpoint(self.directory / name)["epoch"] == self.best_epoch:
                    atomic.rename(self.directory / name, BEST)
                    return
        atomic.remove(self.directory / BEST)
        if self.best_epoch:
            self._warn(f"warning: {self.directory / BEST}, of epoch {self.best_epoch}, is damaged or gone")

    # Writing

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        if not record.hard or not record.soft:
            return
        score, bits = (record.held_out or record.hard).top1, dict(self._bits(model))
        if score > self.best_score or bits != self.best_bits:
            self.best_score, self.best_bits = score, bits
            self.best_top1, self.best_soft, self.best_epoch = record.hard.top1, record.soft.top1, record.epoch
            network = to_cpu(model.state_dict())
            values = (network, record.epoch, record.hard.top1, self.identity, self._codes(model))
            self._pending = dict(zip(NETWORK, values, strict=True))

    def save_if_due(self, state: TrainState) -> None:
        by_steps = self.steps and state.done - self._saved_step >= self.steps
        if by_steps or (self.seconds and time.monotonic() - self._saved_at >= self.seconds):
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Write the state of a training.

        Raises:
            Diverged: it is not finite, and not worth keeping.
            QexpError: it cannot be written; the files are as they were before.
        """
        with state.step.averaged():  # the network of a checkpoint is the one that was evaluated
            self._save(state)

    def _save(self, state: TrainState) -> None:
        check_training(state.model, state.step.guard, f"diverged by step {state.done}")
        now = {name: size for callback in self.callbacks for name, size in callback.position().items()}
        if self._pending is not None:
            self._write(BEST, self._pending, BEST_PREVIOUS)
            self._pending = None
        content = {
            **self._network(state),
            "training": state.state_dict(),
            "best": (self.best_top1, self.best_soft, self.best_epoch),
            "best_score": self.best_score,
            "best_bits": self.best_bits,
            "files": {**self._files, **now},
            "resumed_at": self.resumed_at,
            "time_seconds": self.time_seconds,
        }
        self._write(LAST, content, PREVIOUS)
        self._saved_at, self._saved_step = time.monotonic(), state.done

    def _network(self, state: TrainState) -> dict[str, Any]:
        model, last = state.model, state.last
        top1 = last.hard.top1 if last and last.hard else None
        values = (model.state_dict(), last.epoch if last else 0, top1, self.identity, self._codes(model))
        return dict(zip(NETWORK, values, strict=True))

    def _write(self, name: str, content: Mapping[str, Any], previous: str | None = None) -> None:
        kept = None if previous is None else self.directory / previous
        write_checkpoint(self.directory / name, content, previous=kept)


def write_checkpoint(path: Path, content: Mapping[str, Any], *, previous: Path | None = None) -> None:
    """Write a checkpoint, whole or not at all; raises QexpError. What was there before goes to `previous`."""
    buffer = io.BytesIO()  # torch reports a full disk in its own words, and files.write in one line
    torch.save(content, buffer)
    atomic.write(path, buffer.getbuffer(), previous=previous)


def replace_network(directory: Path, model: nn.Module, top1: float) -> None:
    """Put a network that was changed after its training into last.pt, beside the state at the end of its training.

    Args:
        directory: of a run whose last state is there.
        model: as it is now.
        top1: its hard accuracy in percent.

    Raises:
        QexpError: the disk is full, or last.pt is damaged.
    """
    content = read_checkpoint(directory / LAST)
    write_checkpoint(directory / LAST, {**content, "model": model.state_dict(), "top1": top1})


def strip_training_state(directory: Path) -> None:
    """Leave of a finished run its last and its best network; the summary has to be written before.

    Raises:
        QexpError: the disk is full, or last.pt is damaged.
    """
    content = read_checkpoint(directory / LAST)
    if "training" in content:
        write_checkpoint(directory / LAST, {key: content[key] for key in NETWORK if key in content})
    for name in (PREVIOUS, BEST_PREVIOUS):
        atomic.remove(directory / name)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint that `Checkpointer` wrote.

    Raises:
        UsageError: no such file, or one with a single wrong bit.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):  # a pipe would block
        reason = "it is cut short or overwritten" if path.exists() else "there is no such file"
        raise UsageError(f"{path} is damaged: {reason}")
    content = load_file(path)
    if not isinstance(content, dict) or not is_state(content.get("model")) or not isinstance(content.get("run"), dict):
        raise UsageError(f"{path} is not a checkpoint of a run")
    return content


_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)  # of options; a tensor does not compare to one value


def option_differences(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Return `key=found instead of expected` for everything in which two trees of options differ."""
    lines: list[str] = []
    for key in sorted({*expected, *found}, key=str):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            lines += option_differences(ours, theirs, f"{prefix}{key}.")
        elif type(theirs) not in _PLAIN or ours != theirs:
            lines.append(f"{prefix}{key}={theirs} instead of {ours}")
    return lines
