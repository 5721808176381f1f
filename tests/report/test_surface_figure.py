"""`qexp plot surface`: the network in the middle is the one that is meant, in each form, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from qexp.experiment.build import assemble
from qexp.experiment.library import method
from qexp.experiment.session import Session
from qexp.figures import Chart, Curve, Surface, numbers_csv
from qexp.quantizers import quantized_layers
from qexp.report import surface_figure
from qexp.report.catalogue import Request, make_chart
from qexp.utils.errors import UsageError
from support.commands import Configure, Sweep

SMALL = {"dataset": "synthetic", "model": "resnet20", "width": "0.25", "device": "cpu"}
FEW = {"points": "3", "images": "16"}


def drawn(root: Path, *words: str, **options: str) -> Chart:
    return make_chart("surface", Request(words, {**FEW, **options}, root))


def middles(chart: Chart) -> dict[str, float]:
    """Panel -> the loss of the network that did not move."""
    found = [(panel.title, mark) for panel in chart.panels for mark in panel.marks if isinstance(mark, Surface)]
    return {title: mark.z[1][1] for title, mark in found}


def test_the_middle_is_the_random_network_in_three_forms(configure: Configure, tmp_path: Path) -> None:
    """Batch norm uses the batch: the loss is that of a float network in training mode, whose weights are quantized."""
    chart = drawn(tmp_path, "random", **SMALL, seed="3")
    words = ("dataset=synthetic", "model=resnet20", "model.width=0.25", "quantizer=ste", "weight_bits=2", "seed=3")
    config = configure(*words, "activation_bits=32", "keep_float=[]", "init=scratch", "device=cpu")
    session = Session(config, assemble(config))
    images, labels = next(iter(session.test_batches.epoch(0)))
    model = session.model.train()
    grids = [method("ste").weight(bits).eval() for bits in (2, 4, 8)]
    losses = []
    for bits in (None, (0, 1, 2), (0,)):
        for _, layer in quantized_layers(model):
            copies = [grids[index](layer.weight) for index in bits or ()]
            layer.cached_weight = (sum(copies) / len(copies) if copies else layer.weight).detach()
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(images[:16]), labels[:16])))
    assert list(middles(chart)) == ["float32", "2/4/8 bits mixed", "2 bits"]
    assert list(middles(chart).values()) == pytest.approx(losses, rel=1e-4)
    assert len(set(losses)) == 3
    assert chart.title == "Loss around a random resnet20 x0.25 on synthetic"
    assert (
        chart.caption[0] == "Cross-entropy on the first 16 test images; batch norm uses the statistics of these images."
    )
    assert "all layers quantized, inputs float" in chart.caption[1]


def test_it_is_the_same_twice_and_another_with_another_seed(tmp_path: Path) -> None:
    one, same, other = (numbers_csv(drawn(tmp_path, "random", **SMALL, seed=seed)) for seed in "001")
    assert one == same
    assert one != other


def test_the_middle_of_a_finished_run_is_its_evaluation(sweep: Sweep) -> None:
    """With the run's own statistics, and all images: the loss in its summary; two bits are min-max, as in DQA."""
    run = sweep.run("dqa")
    chart = drawn(sweep.store, run.name.partition("-")[2], norm="running", images="32", device="cpu")
    found = middles(chart)
    assert list(found) == ["float32", "2/4/8 bits mixed", "2 bits", "as trained"]
    assert found["as trained"] == pytest.approx(last_loss(run), rel=1e-3)
    assert found["as trained"] == pytest.approx(found["2 bits"], rel=1e-6)
    assert found["float32"] != pytest.approx(found["2 bits"], rel=1e-3)
    assert [mark.label for mark in chart.panels[-1].marks if isinstance(mark, Curve)] == list(found)


def last_loss(run: Path) -> float:
    """The loss of the hard network on the test images after the last epoch."""
    return json.loads((run / "summary.json").read_text())["test_loss"]


def test_a_float_run_has_no_form_of_its_own(sweep: Sweep) -> None:
    run = sweep.run("fp")
    chart = drawn(sweep.store, str(run), norm="running", images="32", device="cpu")
    assert list(middles(chart)) == ["float32", "2/4/8 bits mixed", "2 bits"]
    assert middles(chart)["float32"] == pytest.approx(last_loss(run), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": "4"}, "points=4: must be odd, so that the network itself is one of them"),
        ({"points": "1"}, "points=1: must be a whole number from 3 to 201"),
        ({"images": "many"}, "images=many: must be a whole number from 2 to 100,000"),
        ({"images": "2.5"}, "images=2.5: must be a whole number from 2 to 100,000"),
        ({"extent": "nan"}, "extent=nan: must be a number from 0.0001 to 1,000"),
        ({"extent": "-1"}, "extent=-1: must be a number from 0.0001 to 1,000"),
        ({"norm": "layer"}, "norm=layer: must be batch or running"),
        ({"device": "tpu"}, "device=tpu: must be auto, cpu, cuda, cuda:NUMBER or mps"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        drawn(tmp_path, "random", **{**SMALL, **options})
    assert str(refused.value) == said


def test_names_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for options, said in (
        ({"model": "resnet999"}, "model=resnet999"),
        ({"dataset": "cifar10,mnist"}, "dataset"),
        ({"keep_float": "no_such_layer"}, "fits no layer"),
        ({"width": "wide"}, "model.width"),
    ):
        with pytest.raises(UsageError, match=said):
            drawn(tmp_path, "random", **{**SMALL, **options})


def test_a_run_has_a_network_of_its_own(sweep: Sweep) -> None:
    run = sweep.run("daq")
    with pytest.raises(UsageError, match=r"^model=: is for a random network; a run has its own$"):
        drawn(sweep.store, str(run), model="resnet18")
    with pytest.raises(UsageError, match="can be compared only by norm=batch"):
        drawn(sweep.store, str(run), norm="running", device="cpu")
    assert len(middles(drawn(sweep.store, str(run), device="cpu"))) == 4


def test_a_network_that_has_no_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*of: object) -> None:
        raise RuntimeError("can't allocate memory: you tried to allocate 2304000000000 bytes")

    monkeypatch.setattr(surface_figure, "assemble", full)
    with pytest.raises(UsageError, match="can't allocate memory"):
        drawn(tmp_path, "random", **SMALL)


def test_the_largest_seed_is_told_in_full(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed=-1: must be a whole number from 0 to 4,294,967,295"):
        drawn(tmp_path, "random", **SMALL, seed="-1")
