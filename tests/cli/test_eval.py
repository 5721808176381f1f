"""`qexp eval` from outside: what training recorded, the DAQ authors' files with a count of right answers, refusals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from qexp.utils.callback import Metrics
from support import authors_files
from support.commands import TINY, Qexp, Sweep

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = {
    "float": {"bn1": 5},
    "weights": {"bn1": 5, "init": 18, "uA": 18, "lA": 18},
    "both": {"bn1": 5, "init": 18},
}
BITS = {"float": (32, 32), "weights": (1, 32), "both": (1, 1)}


@dataclass(frozen=True)
class Published:
    """A file, and a folder with a tiny CIFAR-10 whose right answers by its network are counted."""

    kind: authors_files.Kind
    file: Path
    data: Path
    images: int
    right: int

    @property
    def words(self) -> tuple[str, ...]:
        return f"checkpoint={self.file}", "format=daq", f"data_dir={self.data}", "device=cpu"


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Published]:
    """`publish(kind)` writes a file and 40 test images, 13 with the label that the literal network gives them."""

    def make(kind: authors_files.Kind) -> Published:
        file, data = tmp_path / f"{kind}, 1 bit=.pth", tmp_path / "data"
        torch.save(authors_files.content(kind), file)
        pixels = np.random.RandomState(0).randint(0, 256, (80, 32, 32, 3)).astype(np.uint8)
        weight_bits, activation_bits = BITS[kind]
        x = (torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        logits = authors_files.logits(
            authors_files.state_dict(kind),
            x.permute(0, 3, 1, 2),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
        )
        first, second = logits.topk(2).values.T
        clear = (first - second).argsort(descending=True)[:40]  # no rounding turns these round
        labels = logits.argmax(1)[clear].numpy()
        labels[13:] = (labels[13:] + 1) % 10
        (data / "cifar10").mkdir(parents=True)
        np.savez(data / "cifar10" / "test.npz", images=pixels[clear.numpy()], labels=labels)
        np.savez(data / "cifar10" / "train.npz", images=pixels[:3], labels=np.arange(3))
        return Published(kind, file, data, images=40, right=13)

    return make


@pytest.mark.parametrize("kind", ["float", "weights", "both"])
def test_a_published_file_gives_the_count_of_the_literal_network(
    qexp: Qexp, publish: Callable[..., Published], kind: authors_files.Kind
) -> None:
    given = publish(kind)
    result = qexp("eval", "--json", *given.words)
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert (found["correct"], found["test_images"], found["top1_hard"]) == (13, 40, 32.5)
    assert (found["file"], found["format"], found["dataset"]) == (str(given.file), "daq", "cifar10")
    assert found["quantizer"] == ("fp" if kind == "float" else "daq")
    assert (found["weight_bits"], found["activation_bits"]) == BITS[kind]
    assert (found["mean"], found["std"]) == (list(MEAN), list(STD))
    assert (found["tensors"], found["unused_tensors"]) == (authors_files.TENSORS[kind], UNUSED[kind])
    assert (found["top1_soft"], found["quantizer_gap"]) == (32.5, 0.0)
    assert list(Path().iterdir()) == []


def test_a_published_file_prints_the_same_for_people(qexp: Qexp, publish: Callable[..., Published]) -> None:
    given = publish("weights")
    result = qexp("eval", *given.words)
    assert (result.code, result.err) == (0, "")
    head, *rows = result.out.splitlines()
    assert head == f"daq W1A32  resnet20_daq on cifar10  {given.file} (format daq)"
    for row in (
        "  top-1 hard       32.50 %  of 40 images (cifar10)",
        "  right answers    13 of 40",
        "  normalisation    mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "  tensors          229, all accounted for; not used by the network: bn1 (5), init (18), uA (18), lA (18)",
    ):
        assert row in rows


def test_bits_data_and_normalisation_can_be_given(qexp: Qexp, publish: Callable[..., Published]) -> None:
    given = publish("both")
    words = ("bits=2", "activation_bits=3", "dataset.test_size=13", "dataset.mean=[0.5,0.5,0.5]")
    found = json.loads(qexp("eval", "--json", *given.words, *words).out)
    assert (found["weight_bits"], found["activation_bits"]) == (2, 3)
    assert (found["test_images"], found["mean"]) == (13, [0.5, 0.5, 0.5])


def test_the_count_is_exact() -> None:
    """Percentages are rounded to doubles; the count of right answers comes back for every number of images."""
    for images in (1, 3, 7, 360, 9973, 10_000, 50_000):
        counts = range(0, images + 1, max(images // 10_000, 1))
        assert all(Metrics(0.0, 100 * (count / images), 0.0, images).correct == count for count in counts)


def test_a_run_is_counted_too(qexp: Qexp, sweep: Sweep) -> None:
    run = str(sweep.run("daq"))
    found = json.loads(qexp("eval", run, "--json").out)
    assert found["correct"] / found["test_images"] == found["top1_hard"] / 100
    assert f"\n  right answers    {found['correct']} of 32\n" in qexp("eval", run).out


def test_a_run_from_before_an_option_existed_can_be_evaluated(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    """Options that change no result take their default where a record lacks them."""
    path = Path(shutil.copytree(sweep.run("daq"), tmp_path / "run")) / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("workers:")))
    assert "workers" not in path.read_text()
    result = qexp("eval", str(path.parent), "device=cpu")
    assert (result.code, result.err) == (0, "")


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a run (qexp eval RUN), or a file and its format (qexp eval checkpoint=FILE format=daq)"),
        (("",), "no run ''"),
        (("checkpoint=x.pth",), "checkpoint=x.pth: name a run (qexp eval RUN), or a file and its format ("),
        (("checkpoint=best",), "checkpoint=best: name a run"),
        (("device=cpu",), "name a run"),
        (("checkpoint=x.pth", "format=dqa"), "format=dqa: no such format (did you mean 'daq'?); there is daq"),
        (("RUN", "format=ewgs"), "format=ewgs: no such format; there is daq"),
        (("format=daq",), "format=daq: which file? qexp eval checkpoint=FILE format=daq"),
        (("RUN", "checkpoint=x.pth", "format=daq"), "format=daq: is for a file and goes without the run 'RUN': qexp "),
        (("RUN", "checkpoint=x.pth"), "checkpoint=x.pth: must be last or best"),
        (("RUN", "checkpoint=FILE"), "must be last or best; a file goes with its format and without a run: qexp eval "),
        (("checkpoint=absent.pth", "format=daq"), "no checkpoint at absent.pth"),
        (("checkpoint=.", "format=daq"), ". is no regular file"),
        (("checkpoint=FILE", "format=daq", "devise=cpu"), "devise=cpu: cannot be changed for an evaluation (did you"),
        (("checkpoint=FILE", "format=daq", "model=resnet18"), "model=resnet18: cannot be changed for an evaluation; "),
        (("checkpoint=FILE", "format=daq", "runs_dir=x"), "runs_dir=x: cannot be changed for an evaluation"),
        (("checkpoint=FILE", "format=daq", "+checkpoint=x"), "+checkpoint=x: cannot be changed for an evaluation"),
        (("checkpoint=FILE", "format=daq", "bits=1,2"), "bits=1,2: names several values; evaluate them one by one"),
        (("checkpoint=FILE", "format=daq", "bits=9"), "bits=9: must be one of 1, 2, 3"),
        (("checkpoint=FILE", "format=daq", "bits=32"), "weight_bits=32: must be 1 to 8, because "),
        (("checkpoint=FILE", "format=daq", "dataset=cifar"), "dataset=cifar: no such dataset (did you mean 'cifar10'?"),
        (("checkpoint=FILE", "format=daq", "dataset.foo=1"), "dataset.foo=1: unknown option"),
        (("checkpoint=FILE", "format=daq", "dataset=cifar100"), "linear.bias (10,) instead of (100,), linear.weight"),
        (("checkpoint=FILE", "format=daq", "dataset=digits"), "shapes: conv1.weight (16, 3, 3, 3) instead of (16, 1,"),
        (("checkpoint=FILE", "format=daq", "device=foo"), "device=foo: must be auto, cpu, cuda"),
        (("checkpoint=FILE", "format=daq"), "cifar10: neither data/cifar10/"),
        (("checkpoint=FILE", "format=daq", "oops"), "oops: expected key=value"),
        (("checkpoint=FILE", "format=daq", "~device"), "~device: nothing can be deleted"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    qexp: Qexp, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "file.pth"
    torch.save(authors_files.content("both"), file)
    result = qexp("eval", *(word.replace("FILE", str(file)) for word in words))
    assert (result.code, result.out) == (2, "")
    (line,) = result.errors
    assert line.startswith("qexp eval: error: ")
    assert said in line
    assert list(Path().iterdir()) == []


def test_a_file_with_a_defect_is_refused_by_name(qexp: Qexp, tmp_path: Path) -> None:
    content = authors_files.content("both")
    del content["state_dict"]["layer2.block_1.0.conv2.beta"]
    torch.save(content, tmp_path / "file.pth")
    result = qexp("eval", f"checkpoint={tmp_path / 'file.pth'}", "format=daq")
    (line,) = result.errors
    assert result.code == 2
    assert line.endswith("not the layout of the DAQ authors' ResNet-20; missing: layer2.block_1.0.conv2.beta")


NO_TORCH = """
import sys
from qexp.cli.main import main
assert main(["eval", "checkpoint=x.pth"]) == 2
assert main(["eval", "checkpoint=x.pth", "format=foo"]) == 2
assert main(["eval", "checkpoint=x.pth", "format=daq", "devise=cpu"]) == 2
assert "torch" not in sys.modules, "torch is imported before anything is evaluated"
"""


@pytest.mark.process
def test_mistakes_do_not_wait_for_torch(workspace: Path) -> None:
    subprocess.run([sys.executable, "-c", NO_TORCH], check=True, capture_output=True)


def test_help_shows_both_forms(qexp: Qexp) -> None:
    result = qexp("eval", "--help")
    assert (result.code, result.err) == (0, "")
    for part in ("qexp eval RUN [key=value", "qexp eval checkpoint=FILE format=daq bits=2", "dataset.*, device"):
        assert part in result.out
    assert max(map(len, result.out.splitlines())) <= 120


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize("method", ["fp", "dqa", "daq"])
def test_eval_gives_exactly_what_training_recorded(
    qexp: Qexp, swept: Path, sweep: Sweep, method: str, checkpoint: str
) -> None:
    path = sweep.run(method)
    recorded = json.loads((path / "summary.json").read_text())
    key = path.name.partition("-")[2]
    named = str(path) if checkpoint == "last" else key[:6]
    result = qexp("eval", "--json", named, f"checkpoint={checkpoint}")
    found = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert (found["run"], found["checkpoint"]) == (str(path), checkpoint)
    assert found["top1_hard"] == found["recorded_top1_hard"]
    assert found["top1_hard"] == recorded["top1_hard" if checkpoint == "last" else "best_top1_hard"]
    if checkpoint == "last":
        for name in ("top5_hard", "top1_soft", "quantizer_gap", "test_loss", "test_images"):
            assert found[name] == recorded[name]


def test_eval_prints_the_same_for_people(qexp: Qexp, swept: Path, sweep: Sweep) -> None:
    recorded = json.loads((sweep.run("dqa") / "summary.json").read_text())
    result = qexp("eval", str(sweep.run("dqa")))
    assert result.code == 0
    assert result.out.splitlines()[0] == f"dqa W2A2  resnet20 x0.25 on synthetic  last checkpoint of {sweep.run('dqa')}"
    assert f"top-1 hard       {recorded['top1_hard']:.2f} %  of 32 images (synthetic)" in result.out
    assert f"recorded top-1   {recorded['top1_hard']:.2f} %" in result.out


def test_eval_takes_other_data_and_writes_nothing(qexp: Qexp, swept: Path, sweep: Sweep) -> None:
    path = sweep.run("daq")
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()}
    result = qexp("eval", str(path), "--json", "dataset.test_size=7", "device=cpu")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["test_images"] == 7
    assert {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ffffffffff",), "no run 'ffffffffff': it is neither a run directory nor the hash of a run in "),
        (("RUN", "model=resnet18"), "model=resnet18: cannot be changed for an evaluation; only dataset, "),
        (("RUN", "quantizer=ste"), "quantizer=ste: cannot be changed for an evaluation; only dataset, "),
        (("RUN", "checkpoint=foo"), "checkpoint=foo: must be last or best"),
        (("RUN", "checkpoint=bets"), "did you mean 'best'?"),
        (("RUN", "dataset=cifar"), "dataset=cifar: no such dataset"),
        (("RUN", "devise=cpu"), "devise=cpu: cannot be changed for an evaluation (did you mean 'device'?)"),
        (("RUN", "+foo=1"), "foo=1: cannot be changed for an evaluation"),
        (("RUN", "device=foo"), "device=foo: must be auto, cpu, cuda"),
        (("RUN", "device=cpu,cuda"), "device=cpu,cuda: "),
        (("RUN", "~seed"), "seed"),
        (("RUN", "oops"), "oops: expected key=value"),
        (("RUN", "dataset=digits"), "last.pt: does not fit this network; other shapes: conv1.weight"),
        (("RUN", "dataset=mnist"), "mnist: neither data/mnist/"),
    ],
)
def test_eval_refuses_what_it_cannot_do_in_one_line(
    qexp: Qexp, swept: Path, sweep: Sweep, words: tuple[str, ...], said: str
) -> None:
    result = qexp("eval", *(str(sweep.run("daq")) if word == "RUN" else word for word in words))
    (line,) = result.errors
    assert (result.code, result.out) == (2, "")
    assert line.startswith("qexp eval: error: ")
    assert said in line
    assert list(Path().iterdir()) == []


def test_eval_of_a_run_without_a_checkpoint_says_so(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "b" / "daq-w2a2" / "s0-abc"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text((sweep.run("daq") / "config.yaml").read_text())
    result = qexp("eval", str(path))
    assert (result.code, result.errors) == (2, [f"qexp eval: error: no checkpoint at {path}/last.pt"])


# Firmness


def on_a_threshold(path: Path, copy: Path, *, count: int = 3) -> Path:
    """A copy of a DAQ run whose `layer1.0.conv1` has weights on the threshold in the middle of its range."""
    copy = Path(shutil.copytree(path, copy))
    content = torch.load(copy / "last.pt", weights_only=True)
    weight = content["model"]["layer1.0.conv1.weight"]
    half = weight.flatten()[: weight.numel() // 2].clone()
    half[:count] = 0
    weight.copy_(torch.cat([half, -half]).view(weight.shape))  # whose mean is exactly 0
    for end, sign in (("lower", -1), ("upper", 1)):
        content["model"][f"layer1.0.conv1.weight_quantizer.{end}"].fill_(3 * sign)
    torch.save(content, copy / "last.pt")
    return copy


@pytest.fixture
def crowded(sweep: Sweep, tmp_path: Path) -> Path:
    """A run that has six weights on a threshold."""
    return on_a_threshold(sweep.run("daq"), tmp_path / "crowded")


def test_firmness_is_measured_where_it_is_asked_for(qexp: Qexp, crowded: Path) -> None:
    result = qexp("eval", str(crowded), "--firmness", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)["firmness"]
    assert found["within_1e-6"] == found["layers"]["layer1.0.conv1"]["within_1e-6"] == 6
    assert found["weights"] == sum(layer["weights"] for layer in found["layers"].values())
    assert (found["draws"], len(found["drawn"]["top1"]), len(found["reestimated"]["top1"])) == (5, 5, 5)
    assert found["drawn"]["top1_hard"] == json.loads(result.out)["top1_hard"]
    assert json.loads(qexp("eval", str(crowded), "--firmness", "--json").out)["firmness"] == found
    assert "firmness" not in json.loads(qexp("eval", str(crowded), "--json").out)
    assert "  firmness  " not in qexp("eval", str(crowded)).out


def test_firmness_is_printed_for_people(qexp: Qexp, crowded: Path) -> None:
    before = {entry.name: entry.read_bytes() for entry in crowded.iterdir()}
    found = json.loads(qexp("eval", str(crowded), "--firmness", "--json").out)["firmness"]
    lines = qexp("eval", str(crowded), "--firmness").out.splitlines()
    shown = [
        f"{one['smallest']:.2f} to {one['largest']:.2f} %, mean {one['mean']:.2f} %  (" for one in (found["drawn"],) * 2
    ]
    changed = [f"{found[key]['changed']:.1f} % of predictions change)" for key in ("drawn", "reestimated")]
    again = found["reestimated"]
    assert lines[8:11] == [
        f"  firmness         {shown[0]}6 weights within 1e-6 of a threshold, 5 draws; {changed[0]}",
        f"  re-estimated     {again['smallest']:.2f} to {again['largest']:.2f} %, mean {again['mean']:.2f} %  "
        f"(batch norm estimated again for each draw; {changed[1]}",
        f"  near thresholds  6 within 1e-6, {found['within_1e-5']} within 1e-5, of {found['weights']:,} weights; most "
        f"in layer1.0.conv1: 6 and {found['layers']['layer1.0.conv1']['within_1e-5']} of 144",
    ]
    assert {entry.name: entry.read_bytes() for entry in crowded.iterdir()} == before, "an evaluation writes nothing"


def test_a_terminal_shows_how_far_the_evaluations_are(
    qexp: Qexp, crowded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = qexp("eval", str(crowded), "--firmness", "--json")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown = qexp("eval", str(crowded), "--firmness", "--json")
    assert "weights on thresholds take sides" in shown.err
    assert (plain.err, shown.out) == ("", plain.out)


def test_without_a_crowd_nothing_is_drawn(qexp: Qexp, sweep: Sweep) -> None:
    out = qexp("eval", str(sweep.run("dqa")), "--firmness").out
    found = json.loads(qexp("eval", str(sweep.run("dqa")), "--firmness", "--json").out)["firmness"]
    assert found["within_1e-6"] == found["draws"] == found["spread"] == 0, (
        "of few weights none lies that near by chance"
    )
    assert (
        f"\n  firmness         no weight within 1e-6 of a threshold, {found['within_1e-5']} within 1e-5; no draws "
        in out
    )
    assert "re-estimated" not in out


def test_a_float_net_has_no_firmness(qexp: Qexp, sweep: Sweep) -> None:
    result = qexp("eval", str(sweep.run("fp")), "--firmness", "--json")
    assert (result.code, json.loads(result.out)["firmness"]) == (0, None)
    assert "  firmness  " not in qexp("eval", str(sweep.run("fp")), "--firmness").out


@pytest.mark.parametrize("kind", ["float", "weights", "both"])
def test_a_published_file_always_says_how_firm_it_is(
    qexp: Qexp, publish: Callable[..., Published], kind: authors_files.Kind
) -> None:
    result = qexp("eval", "--json", *publish(kind).words)
    found = json.loads(result.out)["firmness"]
    if kind == "float":
        assert found is None
        return
    assert found["weights"] == 267_264
    assert len(found["layers"]) == 18
    assert found["within_1e-6"] <= found["within_1e-5"] < 100, "weights of a smooth density"


def test_a_run_from_before_firmness_can_be_evaluated_and_shown(qexp: Qexp, crowded: Path) -> None:
    config, summary = crowded / "config.yaml", crowded / "summary.json"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if not line.startswith("firmness:")))
    recorded = json.loads(summary.read_text())
    assert recorded.pop("firmness") is None
    summary.write_text(json.dumps(recorded))
    assert "firmness" not in config.read_text()
    assert json.loads(qexp("eval", str(crowded), "--firmness", "--json").out)["firmness"]["within_1e-6"] == 6
    result = qexp("runs", "show", str(crowded))
    assert (result.code, "  firmness  " in result.out) == (0, False)


# Codes


def changed_record(run: Path, target: Path, change: Callable[[dict], None]) -> Path:
    """A copy of a run, in a store of its own, whose last checkpoint's record of codes is changed."""
    path = target / "store" / Path(*run.parts[-4:])
    shutil.copytree(run, path)
    content = torch.load(path / "last.pt", weights_only=True)
    change(content)
    torch.save(content, path / "last.pt")
    return path


def test_codes_are_those_on_record(qexp: Qexp, sweep: Sweep) -> None:
    summary = json.loads((sweep.run("daq") / "summary.json").read_text())
    for words in ((), ("threads=2", "recipe.eval_batch_size=7")):
        found = json.loads(qexp("eval", str(sweep.run("daq")), *words, "--json").out)
        assert found["codes"] == summary["codes"] == f"{int(summary['codes'], 16):016x}"
        assert found["codes_that_differ"] == {}
        assert found["test_loss"] == pytest.approx(summary["test_loss"], rel=1e-14)
    assert f"  codes            {summary['codes']}  (as recorded)" in qexp("eval", str(sweep.run("daq"))).out
    assert json.loads((sweep.run("fp") / "summary.json").read_text())["codes"] is None
    assert "codes" not in qexp("eval", str(sweep.run("fp"))).out


def test_other_codes_than_those_on_record_are_told_by_count_and_layer(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    """As on a machine that rounds otherwise; nothing fails."""
    named = {}

    def flip(content: dict) -> None:
        first, second = sorted(content["codes"])[:2]
        content["codes"][first][1] ^= 1
        content["codes"][second][1:3] ^= 1
        named.update({first: 1, second: 2})

    path = changed_record(sweep.run("daq"), tmp_path, flip)
    found = qexp("eval", str(path), "--json")
    assert found.code == 0
    assert json.loads(found.out)["codes_that_differ"] == named
    layers = ", ".join(f"{name}: {count}" for name, count in named.items())
    line = f"  WARNING          3 codes of weights not as recorded in the checkpoint ({layers})"
    assert line in qexp("eval", str(path)).out.splitlines()


def test_a_checkpoint_without_a_record_of_codes_says_so(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    path = changed_record(sweep.run("daq"), tmp_path, lambda content: content.pop("codes"))
    assert json.loads(qexp("eval", str(path), "--json").out)["codes_that_differ"] is None
    assert "(not recorded)" in qexp("eval", str(path)).out
    for index, damaged in enumerate(({"x": 5}, 5, [1, 2], {"x": "y"}, {1: torch.zeros(1)})):
        path = changed_record(sweep.run("daq"), tmp_path / str(index), partial(dict.update, codes=damaged))
        assert "(not recorded)" in qexp("eval", str(path)).out


def test_training_that_begins_with_other_codes_says_so(qexp: Qexp, sweep: Sweep, tmp_path: Path) -> None:
    def flip(content: dict) -> None:
        content["codes"][sorted(content["codes"])[0]][1] ^= 1

    path = changed_record(sweep.run("daq"), tmp_path, flip)
    words = [*TINY, "quantizer=daq", "bits=2", "recipe.epochs=1", f"init={path / 'last.pt'}"]
    assert "not as recorded" not in str(qexp("train", *words, "bits=4"))  # another grid has other codes
    assert f"warning: 1 code of weights not as recorded in {path / 'last.pt'} (layer1.0.conv1: 1)" in str(
        qexp("train", *words)
    )
