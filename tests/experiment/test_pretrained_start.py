"""`model.pretrained`: what is loaded, what is made anew and said, and what is refused before anything is created."""

import json
import os
import pickle
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

from qexp import runs
from qexp.config.config import parse_config
from qexp.config.identity import float_parent
from qexp.config.places import file_digest
from qexp.config.yaml_files import to_yaml
from qexp.engine.step import Step
from qexp.experiment.build import assemble
from qexp.experiment.pretrained_start import RECORD, pretrained_start
from qexp.models import library_weights
from qexp.models.library_weights import Published
from qexp.utils.errors import UsageError
from support.commands import Configure, OnlyRun, Qexp
from support.crashes import command, difference, kill_at, result, run_child
from support.crashes import only_run as of_fork

SMALL = (
    *("dataset=synthetic", "dataset.image_size=32", "dataset.train_size=64", "dataset.test_size=32", "device=cpu"),
    *("recipe.epochs=1", "tracking.tensorboard=false"),
)
NETWORK = "shufflenet_v2_x0_5"
WORDS = (*SMALL, "model=torchvision", f"model.network={NETWORK}")
OF_TIMM = (*SMALL, "model=timm", "model.network=test_resnet")
FROZEN = ("recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")


def network(name: str = NETWORK, classes: int = 1000, seed: int = 5, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, num_classes=classes, **options).state_dict()


def saved(state: Any, path: str = "weights.pth") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return Path(path)


def final(path: Path) -> dict[str, Tensor]:
    return torch.load(path / "last.pt", weights_only=True)["model"]


def equal_but_statistics(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """The keys that are not equal, but for those of running statistics, which training changes at any rate."""
    kept = [key for key in expected if "running" not in key and "num_batches" not in key]
    return [key for key in kept if not torch.equal(found[key], expected[key])]


@pytest.mark.training
@pytest.mark.parametrize(("method", "bits"), [("fp", "w32a32"), ("ste", "w4a4")])
def test_other_classes_make_the_last_layer_anew_and_load_the_rest(
    qexp: Qexp, only_run: OnlyRun, workspace: Path, method: str, bits: str
) -> None:
    """The new layer has the random weights that the seed gives it, as without a file."""
    state = network()
    file = saved(state)
    of_bits = () if method == "fp" else ("bits=4",)
    done = qexp("train", *WORDS, *FROZEN, f"quantizer={method}", *of_bits, "init=scratch", f"model.pretrained={file}")
    assert done.code == 0, done.err
    sha256 = file_digest(file)
    said = f"starts from the weights weights.pth (SHA-256 {sha256[:8]}...): fc made anew for 10 classes\n"
    assert done.out.count(said) == 1
    path = only_run(f"{method}-{bits}")
    torch.manual_seed(0)
    random = torchvision.models.get_model(NETWORK, num_classes=10).state_dict()
    head = {key: random[key] for key in ("fc.weight", "fc.bias")}
    assert equal_but_statistics(final(path), {**state, **head}) == []
    record = {"weights": "weights.pth", "sha256": sha256, "made_anew": ["fc"]}
    assert json.loads((path / RECORD).read_text()) == record
    assert json.loads((path / "summary.json").read_text())["pretrained"] == record
    assert "\n  weights          weights.pth, fc made anew\n" in qexp("runs", "show", str(path)).out


@pytest.mark.training
def test_the_same_classes_load_it_whole(qexp: Qexp, only_run: OnlyRun, workspace: Path) -> None:
    state = network(classes=10)
    done = qexp("train", *WORDS, *FROZEN, "quantizer=fp", f"model.pretrained={saved({'state_dict': state})}")
    assert done.code == 0, done.err
    assert "...): all layers\n" in done.out
    assert equal_but_statistics(final(only_run("fp")), state) == []
    assert json.loads((only_run("fp") / "summary.json").read_text())["pretrained"]["made_anew"] == []


@pytest.mark.training
def test_weights_of_a_wrapped_network_are_those_of_the_network(qexp: Qexp, only_run: OnlyRun, workspace: Path) -> None:
    """For `model.pretrained`, and for `init`."""
    state = network(classes=10)
    file = saved({"_orig_mod.module." + key: value for key, value in state.items()})
    done = qexp("train", *WORDS, *FROZEN, "quantizer=fp", f"model.pretrained={file}")
    assert done.code == 0, done.err
    assert equal_but_statistics(final(only_run("fp")), state) == []
    own = final(only_run("fp"))
    file = saved({"state_dict": {"module." + key: value for key, value in own.items() if "tracked" not in key}}, "b.pt")
    done = qexp("train", *WORDS, *FROZEN, "quantizer=ste", "bits=8", f"init={file}")
    assert done.code == 0, done.err
    found = final(only_run("ste"))
    assert equal_but_statistics({key: found[key] for key in own}, own) == []


@pytest.mark.training
def test_a_sweep_shares_a_float_net_that_begins_there(qexp: Qexp, only_run: OnlyRun, workspace: Path) -> None:
    file = saved(network())
    done = qexp("train", "-m", *WORDS, *FROZEN, "quantizer=ste,daq", "bits=4", "init=fp", f"model.pretrained={file}")
    assert done.code == 0, done.err
    parent = only_run("fp")
    assert (done.out.count("starts from the weights"), (parent / RECORD).is_file()) == (1, True)
    assert len(list(Path("runs").glob(f"*/torchvision-{NETWORK}/*/*/summary.json"))) == 3
    child = only_run("ste-w4a4")
    assert not (child / RECORD).exists()
    assert "pretrained" not in json.loads((child / "summary.json").read_text())
    assert equal_but_statistics(final(child), final(parent)) == []


@pytest.mark.training
def test_weights_of_timm_are_loaded_from_safetensors(qexp: Qexp, only_run: OnlyRun, workspace: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(5)
    state = timm.create_model("test_resnet", num_classes=1000).state_dict()
    save_file(state, "timm.safetensors")
    done = qexp("train", *OF_TIMM, *FROZEN, "quantizer=fp", "model.pretrained=timm.safetensors")
    assert done.code == 0, done.err
    assert "fc made anew for 10 classes" in done.out
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert equal_but_statistics(final(only_run("fp")), body) == []


def started(configure: Configure, *words: str) -> Any:
    config = configure(*words, "init=scratch")
    return pretrained_start(config, assemble(config), download=False)


def publish(monkeypatch: pytest.MonkeyPatch, name: str, file: Path | None) -> list[bool]:
    """Let all words name these weights; return how they are asked for: whether with a download."""
    asked: list[bool] = []

    def fetch(*, download: bool) -> Path | None:
        asked.append(download)
        return file

    monkeypatch.setattr(library_weights, "published_weights", lambda *_: Published(name, fetch))
    monkeypatch.setattr("qexp.experiment.pretrained_start.published_weights", lambda *_: Published(name, fetch))
    return asked


@pytest.mark.training
def test_a_word_names_published_weights_which_are_fetched_before_a_run_has_a_directory(
    qexp: Qexp, only_run: OnlyRun, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = publish(monkeypatch, "net-01234567", saved(network(), "cache/net.pth"))
    words = ("train", *WORDS, "quantizer=fp", "model.pretrained=default")
    assert qexp(*words, "--dry-run").code == 0
    assert (asked, Path("runs").exists()) == ([False], False)
    done = qexp(*words)
    assert done.code == 0, done.err
    assert "starts from the weights net-01234567 (SHA-256 " in done.out
    assert asked[1]


def test_a_failed_download_creates_nothing(qexp: Qexp, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workspace.parent / "torch"))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    done = qexp("train", *WORDS, "quantizer=ste", "bits=4", "model.pretrained=default")
    (line,) = done.errors
    assert (done.code, list(workspace.iterdir())) == (2, [])
    assert line.startswith("qexp train: error: model.pretrained=default: ")
    assert "(no network)" in line


@pytest.mark.training
@pytest.mark.process
def test_killed_and_resumed_it_ends_in_the_same_bits(workspace: Path, tmp_path: Path) -> None:
    """Dropout and stochastic depth draw from torch's generator; the weights are not loaded a second time."""
    kept = (*SMALL[:-1], "quantizer=ste", "bits=4", "init=scratch", "checkpoint.steps=1", "recipe.batch_size=16")
    words = ("train", *kept, "model=torchvision", "model.network=efficientnet_b0", "model.pretrained=weights.pth")
    folders = {name: tmp_path / name for name in ("alone", "killed")}
    for folder in folders.values():
        saved(network("efficientnet_b0"), str(folder / "weights.pth"))
    assert run_child(command(words), folders["alone"]) == 0, (folders["alone"] / "log").read_text()
    expected = result(of_fork(folders["alone"]))
    assert run_child(command(words), folders["killed"], kill_at(Step, "forward", 3)) == -9
    assert run_child(command(words), folders["killed"]) == 0, (folders["killed"] / "log").read_text()
    assert difference(expected, result(of_fork(folders["killed"]))) is None
    log = (folders["killed"] / "log").read_text()
    assert (log.count("starts from the weights"), log.count("resuming at step 2")) == (1, 1)


# What makes a run


def test_weights_are_known_by_their_content_and_not_by_their_path(configure: Configure, workspace: Path) -> None:
    first = saved(network())
    second = Path(shutil.copy(first, "other.pth"))
    third = saved(network(seed=6), "third.pth")
    words = (*WORDS, "quantizer=ste", "bits=4")
    keys = {path: configure(*words, f"model.pretrained={path}").key for path in (first, second, third)}
    assert keys[first] == keys[second]
    assert len({*keys.values(), configure(*words).key}) == 3
    config = configure(*words, f"model.pretrained={first}")
    assert config.tree["model"]["digest"] == file_digest(first)[:16]
    parent = parse_config(float_parent(config.tree))
    assert parent.model.options == {"network": NETWORK, "pretrained": "weights.pth"}
    assert parent.tree["model"]["digest"] == config.tree["model"]["digest"]


def test_a_word_and_what_it_stands_for_are_one_run(configure: Configure) -> None:
    """Whatever the library calls its default later; and no random start."""
    words = (*SMALL, "model=torchvision", "model.network=resnet50", "quantizer=fp")
    named = [configure(*words, f"model.pretrained={word}") for word in ("default", "IMAGENET1K_V2", "IMAGENET1K_V1")]
    assert [config.tree["model"]["digest"] for config in named[1:]] == ["resnet50-11ad3fa6", "resnet50-0676ba61"]
    keys = [config.key for config in named]
    assert keys[0] == keys[1]
    assert len({*keys, configure(*words).key}) == 3


def test_a_run_does_not_go_on_with_other_weights_under_the_same_path(
    qexp: Qexp, configure: Configure, workspace: Path
) -> None:
    file = saved(network())
    words = (*WORDS, "quantizer=ste", "bits=4", f"model.pretrained={file}", "init=fp")
    begun = runs.run_directory(parse_config(float_parent(configure(*words).tree)))
    begun.mkdir(parents=True)
    (begun / "config.yaml").write_text(to_yaml(float_parent(configure(*words).tree)))
    (begun / "last.pt").touch()
    runs.write_status(begun, "interrupted")
    before = file.read_bytes()
    saved(network(seed=6))
    done = qexp("train", *words)
    (line,) = done.errors
    assert done.code == 2
    assert f"model.pretrained=weights.pth: has changed since {begun} was begun; put it back to resume it" in line
    assert [path.name for path in begun.parent.iterdir()] == [begun.name]
    file.write_bytes(before)
    assert runs.run_directory(parse_config(float_parent(configure(*words).tree))) == begun


def test_a_file_that_changes_after_the_check_is_noticed(configure: Configure, workspace: Path) -> None:
    file = saved(network())
    config = configure(*WORDS, "quantizer=fp", f"model.pretrained={file}")
    parts = assemble(config)
    saved(network(seed=6))
    with pytest.raises(UsageError, match="has changed since the command was checked; start it again"):
        pretrained_start(config, parts)


# What fits


@pytest.mark.parametrize(
    ("name", "other", "layers"),
    [("densenet121", {}, ("classifier",)), ("googlenet", {"init_weights": False}, ("fc",))],
)
def test_older_names_and_heads_for_training_alone_are_known(
    configure: Configure, workspace: Path, name: str, other: dict[str, bool], layers: tuple[str, ...]
) -> None:
    """As torchvision itself translates the files that it published years ago."""
    state = network(name, **other)
    older = OrderedDict(
        (re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key), value)
        for key, value in state.items()
        if "num_batches" not in key
    )
    assert (older.keys() == state.keys()) is False
    words = (*SMALL, "dataset.image_size=64", "model=torchvision", f"model.network={name}", "quantizer=fp")
    config = configure(*words, f"model.pretrained={saved(older)}")
    parts = assemble(config)
    start = pretrained_start(config, parts)
    assert start is not None
    assert tuple(start.layers) == layers
    found = start.network(parts).state_dict()
    kept = {key: state[key] for key in found if not key.startswith(layers) and "num_batches" not in key}
    assert len(kept) > 100
    assert all(torch.equal(found[key], value) for key, value in kept.items())


def test_a_layer_that_the_file_lacks_is_made_anew_and_half_a_layer_is_an_error(
    configure: Configure, qexp: Qexp, workspace: Path
) -> None:
    state = network(classes=10)
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert started(configure, *WORDS, "quantizer=fp", f"model.pretrained={saved(body)}").layers == ["fc"]
    saved({**body, "fc.weight": state["fc.weight"]})
    done = qexp("train", *WORDS, "quantizer=fp", "model.pretrained=weights.pth")
    assert done.errors == [
        "qexp train: error: model.pretrained=weights.pth: does not fit this network; missing: fc.bias"
    ]


def spoiled(state: dict[str, Tensor], key: str, value: Tensor | None) -> dict[str, Tensor]:
    return {**state, key: value} if value is not None else {name: own for name, own in state.items() if name != key}


CONV = "conv5.0.weight"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: spoiled(s, CONV, None), f"does not fit this network; missing: {CONV}"),
        (lambda s: spoiled(s, "extra", torch.ones(3)), "does not fit this network; unexpected: extra"),
        (lambda s: spoiled(s, CONV, torch.ones(7, 192, 1, 1)), f"other shapes: {CONV} (7, 192, 1, 1) instead of"),
        (
            lambda s: spoiled(s, "fc.weight", torch.ones(1000, 7)),
            "other shapes: fc.bias (1000,) instead of (10,), fc.weight (1000, 7) instead of (10, 1024)",
        ),
        (lambda s: spoiled(s, CONV, s[CONV] * torch.nan), f"infinite values or NaN in {CONV}"),
        (
            lambda s: spoiled(s, CONV, torch.ones_like(s[CONV], dtype=torch.int8)),
            f"integers instead of floats: {CONV}",
        ),
        (lambda s: network("shufflenet_v2_x1_0"), "other shapes: "),
        (lambda s: network("resnet18"), "does not fit this network; missing: "),
        (lambda s: {"a": 1}, "holds no state dict of tensors"),
        (lambda s: [1, 2], "holds no state dict of tensors"),
    ],
    ids=range(10),
)
def test_whatever_else_does_not_fit_is_named_before_anything_is_created(
    qexp: Qexp, workspace: Path, make: Callable[[dict[str, Tensor]], Any], said: str
) -> None:
    file = saved(make(network()))
    for method in (("quantizer=fp",), ("quantizer=ste", "bits=4", "init=scratch"), ("quantizer=ste", "bits=4")):
        done = qexp("train", *WORDS, *method, f"model.pretrained={file}")
        (line,) = done.errors
        assert (done.code, done.out) == (2, "")
        assert "weights.pth" in line
        assert said in line
        assert [path.name for path in workspace.iterdir()] == ["weights.pth"]


def test_images_of_one_channel_do_not_fit_weights_of_three(qexp: Qexp, workspace: Path) -> None:
    grey = ("dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.5]", f"model.pretrained={saved(network())}")
    done = qexp("train", *WORDS, "quantizer=fp", *grey)
    assert "other shapes: conv1.0.weight (24, 3, 3, 3) instead of (24, 1, 3, 3)" in done.err


class Evil:
    def __reduce__(self) -> Any:
        return (open, ("ran", "w"))


def test_nothing_of_a_file_is_run(qexp: Qexp, workspace: Path) -> None:
    Path("evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": Evil()}, "evil.pt")
    for name in ("evil.pth", "evil.pt"):
        done = qexp("train", *WORDS, "quantizer=fp", f"model.pretrained={name}")
        assert (done.code, len(done.errors)) == (2, 1)
        assert "is not a checkpoint that can be loaded safely" in done.err
    assert sorted(path.name for path in workspace.iterdir()) == ["evil.pt", "evil.pth"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model.pretrained=no.pth",), "model.pretrained=no.pth: there is no file no.pth"),
        (("model.pretrained=no/weights",), "model.pretrained=no/weights: there is no file no/weights"),
        (("model.pretrained='~nobody/x.pt'",), "model.pretrained=~nobody/x.pt: there is no file "),
        (("model.pretrained=folder.pth",), "model.pretrained=folder.pth: is no regular file"),
        (("model.pretrained=pipe.pth",), "model.pretrained=pipe.pth: is no regular file"),
        (("model.pretrained=''",), "model.pretrained=: no such weights"),
        (("model.pretrained=3",), "model.pretrained=3: expected a word"),
        (("model.pretrained=none",), "model.pretrained=none: no such weights"),
        (("model.network=shufflenetv2",), "model.network=shufflenetv2: torchvision has no such"),
        (("model.network=hf_hub:x/y",), "model.network=hf_hub:x/y: must be the name of a network"),
        (("model.network=null",), "model.network=null: expected a word"),
        (("model.width=0.5",), "model.width=0.5: unknown option; options here: network, pretrained"),
        (("init=torchvision",), "init=torchvision: is for networks of qexp's own; this one begins with model.pretr"),
        (("init=w.pth", "model.pretrained=w.pth"), "model.pretrained=w.pth: init=w.pth names another start; leave out"),
        (("model.network=convnext_tiny", "dataset.image_size=8"), "make images 32 times smaller: larger images may"),
        (("model.network=vit_b_32", "dataset.image_size=40"), "cannot be built (Input shape indivisible by patch"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_created(
    qexp: Qexp, workspace: Path, words: tuple[str, ...], said: str
) -> None:
    Path("folder.pth").mkdir()
    os.mkfifo("pipe.pth")
    saved(network(classes=10), "w.pth")
    before = sorted(workspace.iterdir())
    done = qexp("train", *WORDS, "quantizer=ste", "bits=4", *words)
    (line,) = done.errors
    assert (done.code, done.out) == (2, "")
    assert said in line
    assert sorted(workspace.iterdir()) == before
