"""The float accuracy beside a result is that of the net that training started from."""

import json
import shutil
from pathlib import Path

import pytest

from qexp.config.identity import float_parent
from qexp.config.schema import Invalid
from support.commands import Qexp

WORDS = ("dataset=digits", "model=resnet20", "protocol=smoke", "device=cpu", "tracking.tensorboard=false")
LONG = "float_recipe=[epochs:2,optimizer.weight.lr:0.2]"


def summary_of(folder: Path, key: str) -> dict:
    (path,) = folder.glob(f"runs/digits/resnet20/*/*-{key}/summary.json")
    return json.loads(path.read_text())


def trained(qexp: Qexp, folder: Path, *words: str) -> tuple[dict, str]:
    """The summary of a run, and what was printed."""
    result = qexp("train", *WORDS, f"runs_dir={folder / 'runs'}", *words)
    assert result.code == 0, result.err
    key = result.out.strip().rpartition("-")[2]
    return summary_of(folder, key), result.out


@pytest.mark.training
def test_it_is_that_of_the_net_that_init_names(qexp: Qexp, tmp_path: Path) -> None:
    """Of a float net with a recipe of its own, of that run named, of a file, and by way of a quantized run."""
    first, out = trained(qexp, tmp_path, "quantizer=daq", "bits=2", "init=fp", LONG)
    parent = next((tmp_path / "runs/digits/resnet20/fp-w32a32").iterdir())
    top1 = json.loads((parent / "summary.json").read_text())["top1_hard"]
    key = parent.name.partition("-")[2]
    assert "epoch 2/2" in out
    assert "epoch 1/1" in out
    changes = ["recipe.epochs 2", "recipe.optimizer.weight.lr 0.2"]
    assert (first["float_top1"], first["float_net"]) == (top1, {"source": f"run {key}", "changes": changes})
    assert first["difference"] == first["top1_hard"] - top1

    (run,) = (tmp_path / "runs/digits/resnet20/daq-w2a2").iterdir()
    (run / "summary.json").unlink()
    again, _ = trained(qexp, tmp_path, "quantizer=daq", "bits=2", "init=fp", LONG)
    assert (again["float_top1"], again["float_net"]) == (first["float_top1"], first["float_net"])  # made again

    other, out = trained(qexp, tmp_path, "quantizer=ste", "bits=4", "init=fp", LONG)
    assert "float baseline found" in out  # the sweep shares it

    named, _ = trained(qexp, tmp_path, "quantizer=ste", "bits=2", f"init={parent}")
    assert (named["float_top1"], named["float_net"]) == (top1, {"source": f"run {key}", "changes": changes})

    file = tmp_path / "net.pt"
    shutil.copy(parent / "last.pt", file)
    of_file, out = trained(qexp, tmp_path, "quantizer=ste", "bits=2", "seed=1", f"init={file}")
    assert (of_file["float_top1"], of_file["float_net"]) == (top1, {"source": str(file), "changes": []})
    assert f"starts from a float net of top-1 {top1:.2f} %: {file}" in out

    best = parent / "best.pt"
    of_best, _ = trained(qexp, tmp_path, "quantizer=ste", "bits=2", f"init={best}")
    assert of_best["float_net"] == {"source": str(best), "changes": changes}

    way, _ = trained(qexp, tmp_path, "quantizer=daq", "bits=1", f"init={first['key']}")
    assert way["float_top1"] == top1
    assert way["float_net"]["source"] == f"run {key}, by way of run {first['key']}"


@pytest.mark.training
def test_it_is_not_taken_from_other_test_images(qexp: Qexp, tmp_path: Path) -> None:
    """The net of another test set is evaluated on ours; a quantized file has no float accuracy."""
    floats, _ = trained(qexp, tmp_path, "quantizer=fp", "dataset.test_size=100")
    run = next((tmp_path / "runs/digits/resnet20/fp-w32a32").iterdir())
    found, _ = trained(qexp, tmp_path, "quantizer=ste", "bits=2", "dataset.test_size=50", f"init={run}")
    assert found["float_net"]["source"] == str(run / "last.pt")
    assert found["float_top1"] / 2 == pytest.approx(round(found["float_top1"] / 2))  # a number of 50 images
    path = next((tmp_path / "runs/digits/resnet20/ste-w2a2").iterdir())
    again, _ = trained(qexp, tmp_path, "quantizer=ste", "bits=1", "dataset.test_size=80", f"init={path / 'best.pt'}")
    assert (again["float_top1"], again["float_net"], again["difference"]) == (None, None, None)
    assert floats["float_net"] is None


def test_the_recipe_of_the_float_net_is_part_of_what_a_quantized_run_computes(configure) -> None:
    """Where it starts from one; the float net itself is the run that this recipe names."""
    quantized = configure("quantizer=daq", "bits=2", "init=fp", "float_recipe=[epochs:7]")
    assert quantized.key != configure("quantizer=daq", "bits=2", "init=fp").key
    assert quantized.identity["float_recipe"] == ["epochs:7"]
    for words in (("quantizer=fp",), ("quantizer=daq", "bits=2", "init=scratch")):
        assert configure(*words, "float_recipe=[epochs:7]").key == configure(*words).key
    parent = float_parent(quantized.tree)
    assert parent["recipe"]["epochs"] == 7
    assert parent["float_recipe"] == []
    from qexp.config.config import float_parent_of

    assert float_parent_of(quantized).key == configure("quantizer=fp", "recipe.epochs=7", "init=scratch").key
    shorter = configure("quantizer=daq", "bits=2", "init=fp", "float_recipe=[epochs:7]", "recipe.epochs=3")
    assert float_parent_of(shorter).key == float_parent_of(quantized).key


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("epochs", "is not OPTION:VALUE of the recipe, such as epochs:300"),
        ("epoch:3", "did you mean 'epochs'"),
        ("optimizer:3", "is not OPTION:VALUE"),
        ("width:2", "is not OPTION:VALUE"),
        ("schedule.milestones:1", "is not OPTION:VALUE"),
        ("a.b.c:1", "is not OPTION:VALUE"),
    ],
)
def test_an_entry_that_is_no_option_is_refused(configure, entry: str, message: str) -> None:
    """With what it could mean."""
    tree = {**configure("quantizer=daq", "bits=2", "init=fp").tree, "float_recipe": [entry]}
    with pytest.raises(Invalid) as caught:
        float_parent(tree)
    assert message in str(caught.value.problems[0])


def test_a_float_net_does_not_train_on_images_that_are_held_out(configure) -> None:
    """More may be held out of its training, since fewer are among them."""
    words = ("quantizer=daq", "bits=2", "init=fp", "recipe.holdout=20")
    with pytest.raises(AssertionError, match="must be 20 or more"):  # of the fixture, with the problems
        configure(*words, "float_recipe=[holdout:0]")
    assert float_parent(configure(*words, "float_recipe=[holdout:50]").tree)["recipe"]["holdout"] == 50


def test_a_value_that_does_not_fit_is_said_of_the_float_recipe(qexp: Qexp, tmp_path: Path) -> None:
    """And not of the recipe, which is right."""
    result = qexp("train", *WORDS, "init=fp", "float_recipe=[epochs:-1]", f"runs_dir={tmp_path / 'runs'}")
    assert result.code == 2
    assert "float_recipe epochs=-1: must be at least 1" in result.err
    assert not (tmp_path / "runs").exists()


def test_a_value_that_other_roles_share_is_said_once(qexp: Qexp, tmp_path: Path) -> None:
    """A float net has no other roles than weight and norm; theirs are those of its weights."""
    entry = "float_recipe=[optimizer.weight.lr:-1]"
    result = qexp("train", *WORDS, "quantizer=dqa", "bits=2", "init=fp", entry, f"runs_dir={tmp_path / 'runs'}")
    (line,) = result.errors
    assert line.startswith("qexp train: error: float_recipe optimizer.weight.lr=-1.0: must be")
