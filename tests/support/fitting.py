"""The loop on three fixed batches, with everything it needs."""

import torch

from qexp.engine.loop import fit
from qexp.engine.optim import Optimizers
from qexp.engine.schedules import make_schedule
from qexp.engine.step import Step, cross_entropy
from qexp.utils.callback import Callback, Metrics
from qexp.utils.types import OptimizerOptions, RoleOptimizers, ScheduleOptions

SGD = OptimizerOptions(name="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.01)
ADAM = OptimizerOptions(name="adam", lr=0.01, momentum=0.9, nesterov=False, weight_decay=0.0)
_OF_QUANTIZERS = {role: ADAM for role in ("range", "scale", "mask", "bits", "noise", "quantizer")}
ROLES = RoleOptimizers(weight=SGD, norm=SGD, clip=SGD, attention=SGD, **_OF_QUANTIZERS)


def schedule(name="constant", warmup=0.0, milestones=(), factor=0.1, end=0.0, restarts=(), own=None):
    options = {"name": name, "warmup": warmup, "milestones": milestones, "factor": factor, "end": end}
    return make_schedule(ScheduleOptions(**options, restarts=restarts, own=None), own)


class Fixed:
    """Three batches, the same ones in every epoch."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            (torch.randn(5, 4, generator=generator), torch.randint(0, 3, (5,), generator=generator)) for _ in range(3)
        ]

    def __len__(self):
        return 3

    def epoch(self, epoch, start=0):
        return iter(self.batches[start:])


class Recorder(Callback):
    def __init__(self):
        self.steps, self.epochs = [], []

    def step(self, record):
        self.steps.append(record)

    def epoch(self, record, model):
        self.epochs.append(record)


METRICS = Metrics(loss=1.0, top1=50.0, top5=90.0, images=10)


def run_fit(model, epochs=2, optimizers=None, progress=None, penalty=lambda: 0.0, **options):
    recorder, guard = Recorder(), options.pop("guard", None)
    optimizers = optimizers or Optimizers({"weight": list(model.parameters())}, ROLES, schedule("cosine"))
    step = Step(
        model,
        criterion=cross_entropy(options.pop("label_smoothing", 0.0)),
        optimizers=optimizers,
        penalty=penalty,
        **options.pop("step", {}),
    )
    step.guard = guard or step.guard
    last = fit(
        model,
        Fixed(),
        step=step,
        anneal=(progress.append if progress is not None else lambda _: None),
        evaluate=options.pop("evaluate", lambda: (METRICS, METRICS)),
        epochs=epochs,
        eval_interval=options.pop("eval_interval", 1),
        callbacks=[recorder],
        **options,
    )
    return last, recorder
