"""The figures of runs: their numbers against what the files of a store say, computed here once more."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qexp.figures import Band, Chart, Curve, Dots
from qexp.report.catalogue import FIGURES, Request, make_chart
from qexp.utils.errors import UsageError
from support.stored_runs import make

STORED = Path(__file__).parents[1] / "data" / "store"
DAQ = "ffnjhgkk"


def draw(name: str, *words: str, root: str = "runs", **options: str) -> Chart:
    return make_chart(name, Request(words, options, Path(root)))


def write_metrics(path: Path, *records: dict[str, Any]) -> Path:
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.fixture
def stored(workspace: Path) -> Path:
    """A copy of the store that the first version left."""
    shutil.copytree(STORED, workspace / "runs")
    return workspace / "runs" / "synthetic" / "resnet20"


# Over epochs


def test_curves_are_those_of_the_records(stored: Path) -> None:
    chart = draw("curves", "quantizer=daq,fp")
    for at, keys in enumerate((("train", "loss"), ("train", "top1"), ("hard", "loss"), ("hard", "top1"))):
        for mark, run in zip(chart.panels[at].marks, ("daq-w2a2/s0-ffnjhgkk", "fp-w32a32/s0-lmpbklib"), strict=True):
            lines = [json.loads(line) for line in (stored / run / "metrics.jsonl").read_text().splitlines()]
            assert list(mark.x) == [line["epoch"] for line in lines] == [1, 2, 3]
            assert list(mark.y) == [line[keys[0]][keys[1]] for line in lines]
    assert chart.title == "Loss and top-1 over epochs: resnet20 x0.125 on synthetic"
    assert chart.caption == ["Trained with commit 071af789a of qexp."]


def test_seeds_make_a_band_and_an_unfinished_run_ends_it(workspace: Path) -> None:
    values = {"s0-aaaaaaaa": (1.0, 0.5, 0.25), "s1-aaaaaaab": (2.0, 0.7), "s2-aaaaaaac": (1.5, 0.3, 0.2)}
    for name, losses in values.items():
        lines = [{"epoch": at, "train": {"loss": loss}} for at, loss in enumerate(losses, 1)]
        write_metrics(make(f"daq-w2a2/{name}"), *lines)
    band, line = draw("curves").panels[0].marks
    assert isinstance(band, Band)
    assert list(line.y) == [statistics.fmean((1.0, 2.0, 1.5)), statistics.fmean((0.5, 0.7, 0.3))]
    assert band.high[0] - line.y[0] == pytest.approx(statistics.stdev((1.0, 2.0, 1.5)))


def test_gaps_and_flips_leave_float_runs_out(workspace: Path) -> None:
    record = {"gap": 1.5, "soft": {"top1": 90.0}, "oscillation": {"changed": 2.5, "turned_back": 0.5}}
    for name in ("daq-w2a2/s0-aaaaaaaa", "fp-w32a32/s0-aaaaaaab"):
        write_metrics(make(name), {"epoch": 1, **record}, {"epoch": 2, **record, "gap": -0.5})
    gap, flips = draw("gap"), draw("flips")
    assert [[mark.label, list(mark.y)] for mark in gap.panels[0].marks] == [["daq W2A2", [1.5, -0.5]]]
    assert [list(panel.marks[0].y) for panel in flips.panels] == [[2.5, 2.5], [0.5, 0.5]]
    assert gap.title == "Quantizer gap over epochs: daq W2A2, resnet18 x0.25 on digits"
    assert "Left out, without quantizer gaps: 1 run." in gap.caption


@pytest.mark.parametrize(
    ("figure", "words", "says"),
    [
        ("curves", ["ste"], "no losses are recorded of run cccccccc"),
        ("curves", ["state=failed,diverged"], "no losses are recorded of these 2 runs"),
        ("flips", ["daq"], "no counts of weights that change level are recorded of run abcdefgh"),
        ("gap", ["fp"], "no quantizer gaps are recorded of run eeeeeeee, which is float"),
    ],
)
def test_runs_without_a_course_are_refused(store: dict[str, Path], figure: str, words: list[str], says: str) -> None:
    (store["daq"] / "metrics.jsonl").write_bytes(b'\xff\n{"epoch": 1}\n[]\n{"epoch": "x", "train": {"loss": 1}}\n')
    make("fp-w32a32/s5-eeeeeeee", epochs=2)
    with pytest.raises(UsageError, match=says):
        draw(figure, *words)


# Accuracy


def result(name: str, top1: float, **more: Any) -> Path:
    path = make(name, summary={"top1_hard": top1, **more})
    weight, _, inputs = name.partition("/")[0].rpartition("-w")[2].partition("a")
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(
        config.replace("weight_bits: 2", f"weight_bits: {weight}\nactivation_bits: {inputs}")
    )
    return path


def test_accuracy_stands_over_the_bits_beside_the_float_runs(workspace: Path) -> None:
    for seed, top1 in enumerate((90.0, 91.0, 95.0)):
        result(f"daq-w2a2/s{seed}-aaaaaaa{seed}", top1, weight_bits=2)
    result("daq-w4a4/s0-aaaaaaab", 97.0, weight_bits=4)
    result("fp-w32a32/s0-aaaaaaac", 98.0, quantizer="fp", weight_bits=32)
    make("daq-w8a8/s0-aaaaaaad", "failed")
    chart = draw("bits")
    (panel,) = chart.panels
    floats, line, rings, dots = panel.marks
    assert (floats.label, list(floats.y)) == ("float", [98.0, 98.0])
    assert (line.label, list(line.x), list(line.y)) == ("daq", [2, 4], [92.0, 97.0])
    spread = statistics.stdev((90.0, 91.0, 95.0))
    assert (rings.low[0], rings.high[0]) == (pytest.approx(92 - spread), pytest.approx(92 + spread))
    assert sorted(zip(dots.x, dots.y, strict=True)) == [(2, 90), (2, 91), (2, 95), (4, 97)]
    assert panel.title == "resnet18 x0.25 on digits"
    assert "Left out, without a result or its bits: 1 run." in chart.caption


def test_without_float_runs_the_line_is_what_the_results_are_held_against(workspace: Path) -> None:
    result("daq-w2a2/s0-aaaaaaaa", 90.0, float_top1=98.0, weight_kilobytes=189.7)
    result("ste-w2a2/s1-aaaaaaab", 80.0, float_top1=97.0, weight_kilobytes=200.1)
    floats = draw("bits", x="size").panels[0].marks[:2]
    assert [type(mark) for mark in floats] == [Band, Curve]
    assert floats[1].y[0] == 97.5
    dots = [mark for mark in draw("bits", x="size").panels[0].marks if isinstance(mark, Dots)]
    assert [list(mark.x) for mark in dots] == [[189.7], [200.1]]


def test_learned_widths_stand_at_their_mean(workspace: Path) -> None:
    result("srq-w4a4/s0-aaaaaaaa", 90.0, mean_weight_bits=2.7, mean_activation_bits=3.1)
    dots = draw("bits").panels[0].marks[-1]
    assert list(dots.x) == [2.7]


def test_bit_operations_are_products_times_both_widths(stored: Path) -> None:
    """Multiply-accumulates of ResNet-20 at an eighth of the width, on images of 8x8, from the shapes of its layers."""
    summary = json.loads((stored / "daq-w2a2" / "s0-ffnjhgkk" / "summary.json").read_text())
    state = torch.load(stored / "fp-w32a32" / "s0-lmpbklib" / "last.pt", weights_only=True)["model"]
    weights = {name.removesuffix(".weight"): own for name, own in state.items() if own.dim() in (2, 4)}
    bits = {name: [32, 32] if name in ("conv1", "fc", "linear") else [2, 2] for name in weights}
    summary["layers"] = {"bits": bits}
    (stored / "daq-w2a2" / "s0-ffnjhgkk" / "summary.json").write_text(json.dumps(summary))
    side = {"layer1": 8, "layer2": 4, "layer3": 2}  # of the images that its convolutions give out
    expected = 0
    for name, own in weights.items():
        area = side.get(name.split(".")[0], 8) ** 2 if own.dim() == 4 else 1
        expected += own.numel() * area * bits[name][0] * bits[name][1]
    dots = draw("bits", "daq", x="bops").panels[0].marks[-1]
    assert list(dots.x) == [pytest.approx(expected / 1e9)]


@pytest.mark.parametrize(
    ("options", "words", "says"),
    [
        ({"x": "bitz"}, [], r"x=bitz: must be bits or size or bops \(did you mean 'bits'\?\)"),
        ({"interval": "95"}, [], "interval=95: must be s or t"),
        ({}, ["ste"], r"of 1 run none has a result \(one is failed\)"),
        ({}, ["fp"], "of 1 run each is float"),
        ({"x": "bops"}, ["daq"], "x=bops: no summary.json of these 1 run tells it"),
    ],
)
def test_accuracies_that_cannot_be_drawn_are_refused(
    store: dict[str, Path], options: dict[str, str], words: list[str], says: str
) -> None:
    make("fp-w32a32/s5-eeeeeeee")
    with pytest.raises(UsageError, match=says):
        draw("bits", *words, **options)


# A network


def test_weights_are_those_of_the_checkpoint(stored: Path) -> None:
    chart = draw("weights", DAQ, layers="layer3")
    state = torch.load(stored / "daq-w2a2" / "s0-ffnjhgkk" / "last.pt", weights_only=True)["model"]
    names = [name.removesuffix(".weight") for name in state if name.startswith("layer3") and state[name].dim() == 4]
    assert [panel.title for panel in chart.panels] == [f"{name}, 2 bits" for name in names]
    for name, panel in zip(names, chart.panels, strict=True):
        values, (bars,) = state[f"{name}.weight"].double().numpy().ravel(), panel.marks
        counts, _ = np.histogram(values, np.array(bars.edges))
        assert np.abs(np.array(bars.heights) - 100 * counts / len(values)).max() <= 200 / len(values)
        lower, upper = (state[f"{name}.weight_quantizer.{end}"].double().item() for end in ("lower", "upper"))
        ends = [values.mean() + end * values.std(ddof=1) for end in (lower, upper)]
        assert [panel.guides[0], panel.guides[-1]] == pytest.approx(ends, rel=1e-4)


def test_layers_are_those_of_the_checkpoint(stored: Path) -> None:
    width, size, error = draw("layers", DAQ).panels
    state = torch.load(stored / "daq-w2a2" / "s0-ffnjhgkk" / "last.pt", weights_only=True)["model"]
    counts = {name: state[f"{name}.weight"].numel() for name in width.marks[0].notes}
    bits = dict(zip(width.marks[0].notes, width.marks[0].y, strict=True))
    assert {name: own for name, own in bits.items() if own != 2} == {list(counts)[0]: 32, list(counts)[-1]: 32}
    assert list(size.marks[0].y) == [counts[name] * bits[name] / 8000 for name in counts]
    assert list(error.marks[0].notes) == [name for name in counts if bits[name] == 2]
    name = error.marks[0].notes[0]
    weight = state[f"{name}.weight"].double()
    lower, upper = (state[f"{name}.weight_quantizer.{end}"].double() for end in ("lower", "upper"))
    standard = (weight - weight.mean()) / weight.std()
    step = (upper - lower) / 3
    hard = ((standard - lower) / step).round().clamp(0, 3) * step + lower
    expected = (standard - hard) * weight.std()
    assert error.marks[0].y[0] == pytest.approx((expected.norm() / weight.norm()).item(), rel=1e-4)


def test_the_crowd_is_counted_over_all_quantized_weights(stored: Path) -> None:
    chart = draw("crowd", DAQ)
    state = torch.load(stored / "daq-w2a2" / "s0-ffnjhgkk" / "last.pt", weights_only=True)["model"]
    names = [name.removesuffix(".weight_quantizer.lower") for name in state if name.endswith("weight_quantizer.lower")]
    near = []
    for name in names:
        weight = state[f"{name}.weight"].double()
        lower, upper = (state[f"{name}.weight_quantizer.{end}"].double() for end in ("lower", "upper"))
        place = ((weight - weight.mean()) / weight.std() - lower) / ((upper - lower) / 3)
        near.append((place - (place.floor().clamp(0, 2) + 0.5)).abs().flatten())
    every = torch.cat(near).numpy()
    measured = chart.panels[0].marks[0]
    assert chart.caption[0] == f"{len(every):,} quantized weights."
    at = list(measured.x).index(pytest.approx(0.05, rel=1e-9))
    assert measured.y[at] == pytest.approx((every <= 0.05).sum(), abs=2)


def test_a_run_that_has_not_ended_says_so(stored: Path) -> None:
    assert (
        draw("layers", "hgeknnad").caption[1] == "The network of last.pt of a run that is interrupted, after epoch 1/3."
    )


@pytest.mark.parametrize("figure", ["weights", "crowd", "layers"])
@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        (["lmpbklib"], {}, "run lmpbklib is float"),
        ([DAQ], {"checkpoint": "first"}, "checkpoint=first: must be last or best"),
        (["hgeknnad"], {"checkpoint": "best"}, "run hgeknnad has no best.pt: it is interrupted"),
        (["nosuch"], {}, "no run 'nosuch'"),
    ],
)
def test_networks_that_cannot_be_shown_are_refused(
    stored: Path, figure: str, words: list[str], options: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        draw(figure, *words, **options)


def test_damaged_runs_are_refused_in_a_line(stored: Path) -> None:
    run = stored / "daq-w2a2" / "s0-ffnjhgkk"
    with pytest.raises(UsageError, match="layers=nosuch: no layer with quantized weights is called so"):
        draw("weights", DAQ, layers="nosuch")
    (run / "last.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="last.pt"):
        draw("layers", DAQ)
    (run / "config.yaml").write_text("recipe: [")
    with pytest.raises(UsageError, match="is not the record of a run"):
        draw("layers", DAQ)


def test_every_figure_of_runs_has_a_line_and_a_module() -> None:
    names = [one.name for one in FIGURES]
    assert {"curves", "gap", "flips", "bits", "weights", "crowd", "layers"} <= set(names)
    assert len(set(names)) == len(names)
