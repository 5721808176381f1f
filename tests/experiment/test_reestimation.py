"""Batch-norm re-estimation: against an average written out, and as a part of a run that may be killed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import qexp.experiment.reestimation
import qexp.experiment.train
from qexp.engine.checkpointer import read_checkpoint
from qexp.engine.step import Step
from qexp.experiment import evaluate
from qexp.experiment.reestimation import estimate_norms
from qexp.quantizers import Quantizer
from qexp.tracking.journal import Journal
from support.crashes import difference, kill_at, only_run, result, run_child
from support.short_runs import CASES, References, half_a_line, train
from support.steps import batch, names, network, small_resnet
from support.trained import equal


@names
def test_statistics_are_the_average_of_those_of_the_batches(name: str) -> None:
    """Of what the hard network before the batch norm gives, with unbiased variances, whatever the mode was before."""
    model = network(name, norm=True)
    batches = [batch(12, seed=seed) for seed in range(5)]
    model.eval()
    with torch.no_grad():
        outputs = [model[:3](images) for images, _ in batches]
    flat = [output.double().transpose(0, 1).flatten(1) for output in outputs]
    mean = torch.stack([own.mean(1) for own in flat]).mean(0)
    variance = torch.stack([((own - own.mean(1, keepdim=True)) ** 2).sum(1) / (own.shape[1] - 1) for own in flat])
    model.train()
    estimate_norms(model, batches)
    torch.testing.assert_close(model[3].running_mean.double(), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model[3].running_var.double(), variance.mean(0), rtol=1e-4, atol=1e-6)


def test_later_norms_see_what_the_earlier_ones_make_of_their_batch(configure: Any) -> None:
    """In the second batch norm of a network: the first one uses the statistics of the batch, not the running ones."""
    model, images, labels = small_resnet("daq", configure)
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
    estimate_norms(model, [(images, labels)])
    model.eval()
    for norm in norms:
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None  # those of the batch
    seen = []
    norms[1].register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    other, _, _ = small_resnet("daq", configure)
    with torch.no_grad():
        model(images)
        estimate_norms(other, [(images, labels)])
    second = [one for one in other.modules() if isinstance(one, nn.BatchNorm2d)][1]
    torch.testing.assert_close(second.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


@names
def test_nothing_else_of_the_network_changes(name: str) -> None:
    """Neither parameters nor quantizers, nor modes and momenta."""
    model = network(name, norm=True)
    model[0].eval()
    before = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("3.")}
    modes = [module.training for module in model.modules() if isinstance(module, Quantizer)]
    estimate_norms(model, [batch(12, seed=seed) for seed in range(3)])
    after = model.state_dict()
    assert equal(before, {key: after[key] for key in before})
    assert [module.training for module in model.modules() if isinstance(module, Quantizer)] == modes
    assert (model[3].momentum, model[3].training) == (0.1, True)


def test_batches_go_on_with_the_following_epochs() -> None:
    def epoch(number: int) -> Any:
        return iter([(number, 0), (number, 1), (number, 2)])

    session: Any = SimpleNamespace(train_batches=SimpleNamespace(epoch=epoch))
    found = list(qexp.experiment.reestimation._batches_after(session, 20, 7))
    assert found == [*((20, at) for at in range(3)), *((21, at) for at in range(3)), (22, 0)]
    assert list(qexp.experiment.reestimation._batches_after(session, 20, 3)) == found[:3]


@pytest.mark.training
def test_a_run_says_what_it_was_before_and_after(references: References) -> None:
    """Trained as the run without it; the network that is kept is the one after, and its accuracy that of the run."""
    plain, found = references.of("dqa"), references.of("norms")
    before, after = plain["summary.json"], found["summary.json"]
    assert before["before_norm"] is None
    assert after["before_norm"] == {"top1_hard": before["top1_hard"], "top1_soft": before["top1_soft"]}
    assert found["best.pt"] != plain["best.pt"]  # they hold what they are of
    *epochs, last = found["metrics.jsonl"]
    assert epochs == plain["metrics.jsonl"]
    assert last == {
        **epochs[-1],
        **{"hard": last["hard"], "soft": last["soft"], "gap": last["gap"], "before_norm": after["before_norm"]},
    }
    assert (last["hard"]["top1"], last["hard"]["loss"]) == (after["top1_hard"], after["test_loss"])
    assert last["hard"]["loss"] != epochs[-1]["hard"]["loss"]
    assert (after["best_top1_hard"], after["best_epoch"]) == (before["best_top1_hard"], before["best_epoch"])


@pytest.mark.training
def test_the_network_that_is_kept_differs_in_its_batch_norms_alone(references: References, tmp_path: Path) -> None:
    states = []
    for case in ("dqa", "norms"):
        (tmp_path / "last.pt").write_bytes(references.of(case)["last.pt"])
        content = read_checkpoint(tmp_path / "last.pt")
        assert set(content) == {"model", "epoch", "top1", "run", "codes"}
        assert content["top1"] == references.of(case)["summary.json"]["top1_hard"]
        states.append(content["model"])
    differing = {key.rpartition(".")[2] for key, value in states[0].items() if not torch.equal(value, states[1][key])}
    assert differing == {"running_mean", "running_var", "num_batches_tracked"}


KILLS = {
    "before it": kill_at(qexp.experiment.reestimation, "estimate_norms", 1),
    "in the middle of an epoch": kill_at(Step, "forward", 6),
    "in the evaluation after it": kill_at(evaluate, "measure_accuracy", 8),
    "in its line of metrics": kill_at(
        Journal, "write", 4, when=lambda self, _: self.path.name == "metrics.jsonl", before=half_a_line
    ),
    "before the network is kept": kill_at(qexp.experiment.reestimation, "replace_network", 1),
    "after the network was kept": kill_at(qexp.experiment.train, "summarize", 1),
    "after the summary": kill_at(qexp.experiment.train, "strip_training_state", 1),
}


@pytest.mark.training
@pytest.mark.parametrize("kill", KILLS)
def test_a_run_that_is_killed_at_its_end_ends_in_the_same_bits(
    references: References, tmp_path: Path, kill: str
) -> None:
    assert run_child(train(*CASES["norms"]), tmp_path, KILLS[kill]) == -9, (tmp_path / "log").read_text()
    assert run_child(train(*CASES["norms"]), tmp_path) == 0, (tmp_path / "log").read_text()
    assert difference(references.of("norms"), result(only_run(tmp_path))) is None


@pytest.mark.training
def test_a_lost_summary_is_that_of_the_network_after(references: References, tmp_path: Path) -> None:
    assert run_child(train(*CASES["norms"]), tmp_path) == 0
    path = only_run(tmp_path)
    expected = json.loads((path / "summary.json").read_text())
    (path / "summary.json").unlink()
    assert run_child(train(*CASES["norms"]), tmp_path, kill_at(Step, "forward", 1)) == 0
    found = json.loads((path / "summary.json").read_text())
    assert {key for key in expected if found[key] != expected[key]} <= {"time_seconds"}
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:-1]))
    (path / "summary.json").unlink()
    assert run_child(train(*CASES["norms"]), tmp_path, kill_at(Step, "forward", 1)) == 1
    assert "metrics.jsonl does not tell what its last epoch gave" in (path / "status.json").read_text()
