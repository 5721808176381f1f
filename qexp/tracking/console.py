"""What a person sees while a run trains: a progress bar on a terminal, otherwise one plain line per epoch."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from qexp.utils.callback import Callback, EpochRecord, StepGauge, StepRecord
from qexp.utils.printing import TableConsole, say

ROOMY = 100  # columns of a terminal that has room for the time since the start as well


def make_progress(console: Console, *, path: Path, epochs: int, steps: int) -> Callback:
    """Return what shows the training of the run in `path`: its row where `console` stands above a table of jobs.

    Elsewhere it is a progress bar where `console` is a terminal, else plain lines.
    """
    if isinstance(console, TableConsole):
        return console.progress(path, epochs, steps)
    return ProgressBar(console, epochs=epochs, steps=steps) if console.is_terminal else PlainLines(console)


def epoch_line(record: EpochRecord) -> str:
    """Return one epoch in one line."""
    width = len(str(record.epochs))
    averaged = " averaged" if record.is_averaged else ""
    test = f"  test{averaged} {record.hard.top1:5.2f} %" if record.hard else ""
    held_out = f"  held out {record.held_out.top1:5.2f} %" if record.held_out else ""
    soft = f" soft {record.soft.top1:5.2f}" if record.soft and record.soft is not record.hard else ""
    penalty = f" penalty {record.penalty:.3f}" if record.penalty else ""
    return (
        f"epoch {record.epoch:{width}}/{record.epochs}  loss {record.train.loss:.4f}{penalty}"
        f"  train {record.train.top1:5.2f} %{test}{soft}{held_out}"
        f"  {record.time_seconds:.1f} s  {record.time_images_per_second:,.0f} images/s"
    )


def norm_line(record: EpochRecord) -> str:
    """Return in one line what the estimation of batch norm after training changed."""
    assert record.hard is not None  # evaluated since
    before = (record.before_norm or {})["top1_hard"]
    return f"batch norm estimated again  test {before:5.2f} -> {record.hard.top1:5.2f} %"


class PlainLines(Callback):
    """One line per epoch: for logs, pipes and batch systems."""

    def __init__(self, console: Console):
        self.console = console

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        self.console.print(epoch_line(record), highlight=False, soft_wrap=True)

    def after_norm(self, record: EpochRecord) -> None:
        self.console.print(norm_line(record), highlight=False, soft_wrap=True)


class ProgressBar(Callback):
    """A live bar with epoch, loss, last test accuracy, images/s and the time that is left."""

    def __init__(self, console: Console, *, epochs: int, steps: int):
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]}  test {task.fields[top1]}  {task.fields[speed]}"),
            *([TimeElapsedColumn()] if console.width >= ROOMY else []),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=steps, epoch=1, loss="-", top1="-", speed="-")
        self.gauge = StepGauge()
        self.bar.start()

    def step(self, record: StepRecord) -> None:
        if (found := self.gauge.reading(record)) is None:
            return
        loss, speed = found
        self.bar.update(
            self.task,
            completed=record.step,
            epoch=record.epoch + 1,
            loss=f"{loss:.3f}",
            speed=f"{speed:,.0f} images/s",
        )

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        if record.hard:
            self.bar.update(self.task, top1=f"{record.hard.top1:.2f} %")
        say(self.bar.console, epoch_line(record))
        self.gauge.restart()

    def after_norm(self, record: EpochRecord) -> None:
        say(self.bar.console, norm_line(record))

    def close(self) -> None:
        self.bar.stop()
