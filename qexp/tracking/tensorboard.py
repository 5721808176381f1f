"""TensorBoard: everything of a run in one event file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from qexp.observer import EpochRecord, Observer, StepRecord


class TensorBoard(Observer):
    """Writes scalars, weight histograms, the configuration and hparams.

    Args:
        directory: of the event file.
        config_text: the resolved configuration, shown as text.
        hyperparameters: flat names and values for the hparams view.
        step_interval: steps between points of the step curves; reading a loss waits for the device.
        histogram_interval: epochs between weight histograms, 0 for none.
        stats: returns what the quantizers report.
        weights: returns the tensors to draw histograms of.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config_text: str,
        hyperparameters: Mapping[str, bool | int | float | str],
        step_interval: int,
        histogram_interval: int,
        stats: Callable[[], Mapping[str, float]],
        weights: Callable[[], Mapping[str, Tensor]],
    ):
        self.writer = SummaryWriter(str(directory))
        self.writer.add_text("config", f"```yaml\n{config_text}\n```")
        self.hyperparameters = dict(hyperparameters)
        self.step_interval, self.histogram_interval = step_interval, histogram_interval
        self.stats, self.weights = stats, weights

    def step(self, record: StepRecord) -> None:
        if record.step % self.step_interval == 0 or record.step == record.steps:
            self.writer.add_scalar("loss/step", record.loss.item(), record.step)
            for role, rate in record.learning_rates.items():
                self.writer.add_scalar(f"lr/{role}", rate, record.step)

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        values = {
            "loss/train": record.train.loss,
            "loss/penalty": record.penalty,
            "accuracy/top1_train": record.train.top1,
            "speed/images_per_second": record.images_per_second,
        }
        if record.hard and record.soft and record.gap is not None:
            values |= {
                "loss/test": record.hard.loss,
                "accuracy/top1_hard": record.hard.top1,
                "accuracy/top1_soft": record.soft.top1,
                "accuracy/top5_hard": record.hard.top5,
                "accuracy/top5_soft": record.soft.top5,
                "accuracy/quantizer_gap": record.gap,
            }
        values |= {f"quantizer/{name}": value for name, value in self.stats().items()}
        for name, value in values.items():
            self.writer.add_scalar(name, value, record.epoch)
        every = self.histogram_interval
        if every and (record.epoch % every == 0 or record.epoch in (1, record.epochs)):
            for name, tensor in self.weights().items():
                self.writer.add_histogram(f"weights/{name}", tensor, record.epoch)

    def finish(self, summary: Mapping[str, Any]) -> None:
        names = ("top1_hard", "top1_soft", "top5_hard", "quantizer_gap", "difference", "weight_kilobytes")
        metrics = {f"result/{name}": summary[name] for name in names if summary.get(name) is not None}
        # add_hparams would open a second event file in a folder of its own.
        for part in hparams(self.hyperparameters, metrics):
            self.writer.file_writer.add_summary(part)  # type: ignore[attr-defined]
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, 0)

    def close(self) -> None:
        self.writer.close()
