"""Callbacks that show and record a training: the console, metrics.jsonl and layers.jsonl, TensorBoard."""

from qexp.tracking.console import make_progress
from qexp.tracking.jsonl import JsonLines, LayerLines
from qexp.tracking.tensorboard import EVENT_FILE, TensorBoard

__all__ = ["EVENT_FILE", "JsonLines", "LayerLines", "TensorBoard", "make_progress"]
