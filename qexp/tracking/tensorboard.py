"""TensorBoard: everything of a run in one event file."""

import re
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_STRING
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.tensorboard import summary as pack

from qexp.tracking.journal import Journal
from qexp.utils.callback import Callback, EpochRecord, StepRecord

EVENT_FILE = "events.out.tfevents.qexp"  # one name, whatever the clock says: a resumed run appends to it

SHOWN_FIRST = ("quantizer", "weight_bits", "activation_bits", "lr", "seed")  # of HPARAMS, which shows five at first

_SIZES = 1e-12 * 1.1 ** np.arange(774)
_BLOCK = re.compile(r"([^./]+(?:\.\d+)?)[./](.+)")  # layer1.0 of layer1.0.conv1, conv1 of conv1.weight

BINS = np.concatenate([-_SIZES[::-1], [0.0], _SIZES])  # TensorFlow's, up to about 1e20


def in_a_group(kind: str, name: str) -> str:
    """Return a tag such as `quantizer layer1.0/conv1/weight/upper`: the layers of a block in one group.

    TensorBoard folds what has the same words before the first slash.

    Args:
        kind: of what is drawn.
        name: a layer, then behind a dot or a slash what is drawn of it.
    """
    found = _BLOCK.fullmatch(name)
    return f"{kind} {found[1]}/{found[2]}" if found else f"{kind}/{name}"


class TensorBoard(Callback):
    """Writes scalars, weight histograms, the configuration and hparams.

    Not torch's SummaryWriter: that begins a file with every process, and tells of a full disk in another thread.

    Args:
        directory: of the event file.
        at: bytes of it to keep.
        config_text: the resolved configuration, shown as text.
        hyperparameters: flat names and values for the hparams view.
        columns: names, with a usual value each, that other runs may have in the hparams view.
        step_interval: steps between points of the step curves; reading a loss waits for the device.
        histogram_interval: epochs between weight histograms, 0 for none.
        stats: returns what the quantizers report.
        weights: returns the tensors to draw histograms of.
        pictures: returns tag -> the content of a PNG file, once training has ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        at: int = 0,
        config_text: str,
        hyperparameters: Mapping[str, bool | int | float | str],
        columns: Mapping[str, bool | int | float | str] = MappingProxyType({}),
        step_interval: int,
        histogram_interval: int,
        stats: Callable[[], Mapping[str, float]],
        weights: Callable[[], Mapping[str, Tensor]],
        pictures: Callable[[], Mapping[str, bytes]] = dict,
    ):
        self.journal = Journal(directory / EVENT_FILE, at)
        self.records = RecordWriter(self.journal)
        if self.journal.is_new:
            self._write(Event(file_version="brain.Event:2"))
            self._add(pack.text("config", f"```yaml\n{config_text}\n```"), 0)
        self.hyperparameters, self.columns = dict(hyperparameters), columns
        self.step_interval, self.histogram_interval = step_interval, histogram_interval
        self.stats, self.weights, self.pictures = stats, weights, pictures

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.records.write(event.SerializeToString())

    def _add(self, content: Summary, step: int) -> None:
        self._write(Event(summary=content, step=step))

    def step(self, record: StepRecord) -> None:
        if record.step % self.step_interval == 0 or record.step == record.steps:
            self._add(pack.scalar("loss/step", record.loss.item()), record.step)
            for role, rate in record.learning_rates.items():
                self._add(pack.scalar(f"lr/{role}", rate), record.step)

    def epoch(self, record: EpochRecord, model: nn.Module) -> None:
        values = {
            "loss/train": record.train.loss,
            "loss/penalty": record.penalty,
            "accuracy/top1_train": record.train.top1,
            "time/images_per_second": record.time_images_per_second,
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
        if record.held_out:
            values |= {"loss/held_out": record.held_out.loss, "accuracy/top1_held_out": record.held_out.top1}
        values |= {f"oscillation/{name}": value for name, value in (record.oscillation or {}).items()}
        values |= {in_a_group("quantizer", name): value for name, value in self.stats().items()}
        for name, value in values.items():
            self._add(pack.scalar(name, value), record.epoch)
        every = self.histogram_interval
        if every and (record.epoch % every == 0 or record.epoch in (1, record.epochs)):
            for name, tensor in self.weights().items():
                self._add(pack.histogram(in_a_group("weights", name), tensor.float().cpu().numpy(), BINS), record.epoch)

    def position(self) -> Mapping[str, int]:
        return self.journal.position()

    def finish(self, summary: Mapping[str, Any]) -> None:
        names = ["top1_hard", "top1_soft", "top5_hard", "quantizer_gap", "difference", "weight_kilobytes"]
        names += ["mean_weight_bits", "mean_activation_bits"]
        metrics = {f"result/{name}": summary[name] for name in names if summary.get(name) is not None}
        # add_hparams would open a second event file in a folder of its own.
        experiment, *session = pack.hparams(self.hyperparameters, metrics)
        _name_columns(experiment, self.columns)
        for part in (experiment, *session):
            self._add(part, 0)
        for name, value in metrics.items():
            self._add(pack.scalar(name, value), 0)
        for tag, content in self.pictures().items():
            self._add(_picture(tag, content), summary.get("epochs_trained", 0))

    def close(self) -> None:
        self.journal.close()


def _picture(tag: str, content: bytes) -> Summary:
    """Return a PNG file as an image; its header has width and height."""
    width, height = struct.unpack(">II", content[16:24])
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _name_columns(experiment: Summary, columns: Mapping[str, bool | int | float | str]) -> None:
    """Let HPARAMS have columns for options of other runs as well, and show first what runs are called by.

    TensorBoard takes its columns from one of the runs, those first that are said to differ, and ticks five of them.
    """
    plugin = experiment.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(plugin.content)
    infos = data.experiment.hparam_infos
    for info in infos:
        info.differs = info.name in SHOWN_FIRST
    known = {info.name for info in infos}
    for name, value in columns.items():
        if name not in known:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            infos.add(name=name, type=DATA_TYPE_FLOAT64 if is_number else DATA_TYPE_STRING)
    plugin.content = data.SerializeToString()
