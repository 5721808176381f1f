"""Callbacks that show and record a training: the console, metrics.jsonl, TensorBoard."""

from qexp.tracking.console import make_progress
from qexp.tracking.jsonl import JsonLines
from qexp.tracking.tensorboard import EVENT_FILE, TensorBoard

__all__ = ["EVENT_FILE", "JsonLines", "TensorBoard", "make_progress"]
